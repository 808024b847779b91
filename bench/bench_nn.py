"""Training steps and large batches of small networks beside PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from _bench_machine import THREADS
from _cases_simplex import product_rate

from hotloops import nn
from hotloops.nn._tables import read_inputs
from hotloops.nn._train import train

torch = pytest.importorskip("torch")
import _peers_networks as peers  # noqa: E402  (needs torch)

# torch.compile uses parts of PyTorch that it warns of itself.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")

BATCH, STEPS = 256, 20
GENES, HIDDEN, LATENT, CELLS = 2000, (512, 256), 50, 2560
WIDTHS = [50, 64, 64, 64, 50]
LIBRARIES = ("hotloops cpp", "hotloops numba", "PyTorch", "PyTorch, compiled")


@pytest.fixture(autouse=True)
def two_threads() -> None:
    torch.set_num_threads(THREADS)


def counts() -> Any:
    """Cells of which a tenth of the counts is not zero."""
    rng = np.random.default_rng(0)
    share = np.exp(rng.normal(-2.5, 1.6, GENES))
    mean = 280.0 * share / share.sum() * rng.gamma(2.0, 0.5, (CELLS, GENES))
    made = rng.poisson(mean).astype(np.float32)
    made[:, 0] += 1
    return scipy.sparse.csr_array(made)


# --- a perceptron of hidden width 64 -------------------------------------------------------------


def perceptron(library: str) -> Callable[[], float]:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(CELLS, WIDTHS[0])).astype(np.float32)
    y = np.tanh(x @ rng.normal(0.0, 0.2, (WIDTHS[0], WIDTHS[-1]))).astype(np.float32)
    if library.startswith("hotloops"):
        network = nn.MLP(WIDTHS, activation="silu", seed=1)
        options: dict[str, Any] = {"backend": library.split()[-1], "num_threads": THREADS}
        rule = nn.AdamW(1e-3, weight_decay=1e-5)
        state = None

        def call() -> float:
            nonlocal state
            run = network.fit(
                x, y, num_steps=STEPS, batch_size=BATCH, optimizer=rule, state=state, **options
            )
            state = run.state
            return float(run.losses[-1, 0])

        return call
    model = peers.perceptron(WIDTHS)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def loss(rows: Any) -> Any:
        return torch.nn.functional.mse_loss(model(inputs[rows]), targets[rows])

    parameters = list(model.parameters())
    jit = library.endswith("compiled")
    return peers.trainer(parameters, loss, CELLS, BATCH, STEPS, jit=jit)


# --- the autoencoder of CFGen --------------------------------------------------------------------


def autoencoder_network() -> tuple[nn.Network, nn.Loss]:
    b = nn.ProgramBuilder()
    h = b.sparse_dense(0, columns=GENES, width=HIDDEN[0], transform="log1p", name="encoder.0")
    h = b.batch_norm(h, activation="elu", name="encoder.1")
    h = b.dense(h, HIDDEN[1], name="encoder.2")
    h = b.batch_norm(h, activation="elu", name="encoder.3")
    z = b.dense(h, LATENT, name="encoder.4")
    h = b.dense(z, HIDDEN[1], name="decoder.0")
    h = b.batch_norm(h, activation="elu", name="decoder.1")
    h = b.dense(h, HIDDEN[0], name="decoder.2")
    h = b.batch_norm(h, activation="elu", name="decoder.3")
    logits = b.dense(h, GENES, name="decoder.4")
    log_theta = b.parameter("theta", (1, GENES), init="zeros")
    network = nn.Network(b.finish([logits]), seed=1)
    return network, nn.Loss("negative_binomial", logits, 0, log_theta=log_theta)


def autoencoder(library: str) -> Callable[[], float]:
    table = counts()
    if library.startswith("hotloops"):
        network, loss = autoencoder_network()
        tables, _ = read_inputs("bench", network.program, [table], network.dtype)
        rule = nn.AdamW(1e-3, weight_decay=1e-5, clip_norm=1.0)
        options: dict[str, Any] = {"backend": library.split()[-1], "num_threads": THREADS}
        state = None

        def call() -> float:
            nonlocal state
            run = train(
                network,
                [loss],
                tables,
                batch_size=BATCH,
                num_steps=STEPS,
                optimizer=rule,
                state=state,
                **options,
            )
            state = run.state
            return float(run.losses[-1, 0])

        return call
    model = peers.autoencoder(GENES, HIDDEN, LATENT)
    log_theta = torch.nn.Parameter(torch.zeros(GENES))
    dense = torch.from_numpy(table.toarray())
    inputs = dense.log1p()

    def torch_loss(rows: Any) -> Any:
        return peers.negative_binomial(model(inputs[rows]), log_theta, dense[rows])

    parameters = [*model.parameters(), log_theta]
    jit = library.endswith("compiled")
    return peers.trainer(parameters, torch_loss, CELLS, BATCH, STEPS, clip=1.0, jit=jit)


TRAINING = {
    f"a step at batch {BATCH}, perceptron of width 64": (perceptron, 0.2),
    f"a step at batch {BATCH}, count autoencoder, {GENES:,} genes": (autoencoder, 0.05),
}


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("case", TRAINING)
def test_training(benchmark: Any, measure: Callable[..., None], case: str, library: str) -> None:
    """The loss after the first steps is that of our C++ backend, as far as the starts allow."""
    benchmark.group = f"nn: {case}"
    if library.endswith("compiled") and benchmark.disabled:
        pytest.skip("it takes longer to compile than all else")
    make, tolerance = TRAINING[case]
    expected = make("hotloops cpp")()
    measure(
        library,
        make(library),
        lambda found: np.testing.assert_allclose(found, expected, rtol=tolerance),
        elements=STEPS,
        unit="steps",
        bytes_moved=0,
        dtype="float32",
    )


# --- a large batch -------------------------------------------------------------------------------

SIDE, ROWS = 512, 4096


def large(library: str) -> Callable[[], Any]:
    network = nn.MLP([SIDE, SIDE], seed=1)
    x = np.random.default_rng(0).normal(size=(ROWS, SIDE)).astype(np.float32)
    if library.startswith("hotloops"):
        out = np.empty_like(x)
        options = {"backend": library.split()[-1], "num_threads": THREADS, "out": out}
        return lambda: network.forward(x, **options)
    layer = torch.nn.Linear(SIDE, SIDE)
    values = [torch.from_numpy(value) for value in network.state_dict().values()]
    with torch.no_grad():
        layer.weight.copy_(next(v for v in values if v.ndim == 2))
        layer.bias.copy_(next(v for v in values if v.ndim == 1))
    batch = torch.from_numpy(x)

    def call() -> Any:
        with torch.inference_mode():
            return layer(batch).numpy()

    return call


@pytest.mark.benchmark(group=f"nn: forward, {ROWS} rows, a layer of {SIDE} x {SIDE}")
@pytest.mark.parametrize("library", ["hotloops cpp", "hotloops numba", "PyTorch"])
def test_large_batch(benchmark: Any, measure: Callable[..., None], library: str) -> None:
    expected = large("hotloops cpp")()
    if library == "hotloops cpp":
        limit = product_rate() / (2 * SIDE * SIDE)
        benchmark.extra_info.update(limit="sgemm", limit_per_second=limit)
    measure(
        library,
        large(library),
        lambda found: np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4),
        elements=ROWS,
        unit="rows",
        bytes_moved=8 * ROWS * SIDE,
        dtype="float32",
    )
