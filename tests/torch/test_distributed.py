"""One rank a client: two processes over gloo give the bits of one process with two clients.

In float32 and in bfloat16, for parameters and for the state.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

torch = pytest.importorskip("torch")

if not torch.distributed.is_available():
    pytest.skip("this PyTorch has no torch.distributed", allow_module_level=True)

if TYPE_CHECKING:
    from conftest import RunPython

CODE = """
import torch
import torch.distributed as dist
from hotloops.torch import NSISA, SISA

rank, alpha = {rank}, [0.3, 0.7]
BITS = {{2: torch.int16, 4: torch.int32}}

def bits(tensors):
    return [x.detach().flatten().view(BITS[x.element_size()]).tolist() for x in tensors]

def set_gradients(params, t, client):
    generator = torch.Generator().manual_seed(10 * t + client)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator).to(p.dtype)

def run(kind, dtype, **options):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(n).to(dtype)) for n in ((6, 4), (9,), (1100, 3))]
    options.update(alpha=alpha)
    if rank >= 0:
        optimizer = kind(params, 1.0, 3.0, process_group=dist.group.WORLD, **options)
    else:
        optimizer = kind(params, 1.0, 3.0, n_clients=2, **options)
    for t in range(4):
        for client in [rank] if rank >= 0 else [0, 1]:
            set_gradients(params, t, client)
            optimizer.step(client=client)
    print("params", bits(params))
    print("masters", bits(optimizer.state[p].get("master", torch.empty(0)) for p in params))
    for client in [rank] if rank >= 0 else [0, 1]:
        for key in ("PI", "V"):
            own = [optimizer.state[p].get(key) for p in params]
            rows = [x[0 if rank >= 0 else client] for x in own if x is not None]
            print("client", client, key, bits(rows))

torch.set_num_threads(1)
if rank >= 0:
    dist.init_process_group("gloo", init_method="file://" + {file!r}, rank=rank, world_size=2)
for kind in (SISA, NSISA):
    for dtype in (torch.float32, torch.bfloat16):
        for state_dtype in (None, torch.bfloat16):
            options = {{}} if state_dtype is None else {{"state_dtype": state_dtype, "seed": 2**60}}
            run(kind, dtype, **options)
if rank >= 0:
    dist.destroy_process_group()
"""


def test_two_processes(run_python: RunPython, tmp_path: Path) -> None:
    def run(rank: int) -> str:
        code = CODE.format(rank=rank, file=str(tmp_path / "meeting"))
        return run_python(code, env={"GLOO_SOCKET_IFNAME": "lo"})

    with ThreadPoolExecutor(3) as pool:
        alone, *ranks = pool.map(run, (-1, 0, 1))
    lines = alone.splitlines()
    assert len(lines) == 2 * 4 * (2 + 2 * 2)  # kinds, types; parameters, masters, state of clients
    for rank, found in enumerate(ranks):
        assert found.splitlines() == [line for line in lines if f"client {1 - rank}" not in line]
