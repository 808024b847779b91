"""One rank a client: two processes over gloo give the bits of one process with two clients."""

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

def set_gradients(params, t, client):
    generator = torch.Generator().manual_seed(10 * t + client)
    for p in params:
        p.grad = torch.randn(p.shape, generator=generator)

def run(kind):
    torch.manual_seed(0)
    params = [torch.nn.Parameter(torch.randn(6, 4)), torch.nn.Parameter(torch.randn(9))]
    if rank >= 0:
        optimizer = kind(params, 1.0, 3.0, alpha=alpha, process_group=dist.group.WORLD)
    else:
        optimizer = kind(params, 1.0, 3.0, alpha=alpha, n_clients=2)
    for t in range(4):
        for client in [rank] if rank >= 0 else [0, 1]:
            set_gradients(params, t, client)
            optimizer.step(client=client)
    print([p.detach().flatten().view(torch.int32).tolist() for p in params])

torch.set_num_threads(1)
if rank >= 0:
    dist.init_process_group("gloo", init_method="file://" + {file!r}, rank=rank, world_size=2)
run(SISA)
run(NSISA)
if rank >= 0:
    dist.destroy_process_group()
"""


def test_two_processes(run_python: RunPython, tmp_path: Path) -> None:
    def run(rank: int) -> str:
        code = CODE.format(rank=rank, file=str(tmp_path / "meeting"))
        return run_python(code, env={"GLOO_SOCKET_IFNAME": "lo"})

    with ThreadPoolExecutor(3) as pool:
        alone, *ranks = pool.map(run, (-1, 0, 1))
    assert len(alone.splitlines()) == 2
    assert ranks == [alone, alone]
