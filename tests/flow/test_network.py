"""The velocity network: known answers, the same module in torch, conditions, guidance, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hotloops import flow, nn

# The order in which the known answer fills the parameters.
ORDER = (
    "time_embedder.0.weight",
    "time_embedder.0.bias",
    "time_embedder.2.weight",
    "time_embedder.2.bias",
    "net_in.weight",
    "net_in.bias",
    "blocks.0.net1.1.weight",
    "blocks.0.net1.1.bias",
    "blocks.0.cond_proj.1.weight",
    "blocks.0.cond_proj.1.bias",
    "blocks.0.net2.1.weight",
    "blocks.0.net2.1.bias",
    "net_out.1.weight",
    "net_out.1.bias",
    "attributes.y.weight",
)
X, T = np.array([[0.3, -1.2]]), 0.25


def filled() -> flow.VelocityNetwork:
    network = flow.VelocityNetwork(2, 3, 4, 1, attributes={"y": 2}, dtype="float64")
    begin, state = 0, {}
    for name in ORDER:
        shape = network.program.parameters[name].shape
        count = int(np.prod(shape))
        state[name] = (np.sin(1.0 + np.arange(begin, begin + count)) / 2.0).reshape(shape)
        begin += count
    network.load_state_dict(state)
    return network


def scrambled(seed: int = 0, **options: Any) -> flow.VelocityNetwork:
    """A network whose blocks don't start at zero, and which doesn't see the fastest waves of time,
    so that adaptive steps of two backends take the same decisions."""
    given = {"attributes": {"a": 3, "b": 2}, "dtype": "float64"} | options
    network = flow.VelocityNetwork(3, 8, 6, 2, **given)
    rng = np.random.default_rng(seed)
    for name, value in network.parameters.items():
        if "net2" in name or "bias" in name:
            value[...] = 0.4 * rng.normal(size=value.shape)
    network.parameters["time_embedder.0.weight"][:, [0, 3]] = 0.0
    return network


@pytest.fixture
def start() -> Any:
    return np.random.default_rng(1).normal(size=(100, 3))


# --- known answers -------------------------------------------------------------------------------


def test_embedding_of_the_time(backend: str) -> None:
    b = nn.ProgramBuilder()
    program = b.finish(outputs=[b.time_embedding(b.input(1), 6, scale=1000.0)])
    value = nn.Network(program, dtype="float64").forward(np.array([[0.37]]), backend=backend)
    expected = [
        -0.650264939560776,
        -0.529836140908493,
        0.036991558411181,
        0.759707515020103,
        -0.848100031710408,
        0.999315578086478,
    ]
    assert value[0] == pytest.approx(expected, abs=1e-13)


def test_velocity(backend: str) -> None:
    network = filled()
    conditional = network.velocity(X, T, {"y": 1}, backend=backend)
    assert conditional[0] == pytest.approx([0.230837835708937, 0.629693664099128], abs=1e-14)
    plain = network.velocity(X, T, backend=backend)
    assert plain[0] == pytest.approx([0.235438853996359, 0.62555639514475], abs=1e-14)


def test_gradients(backend: str) -> None:
    network = filled()
    v = network.forward(X, np.array([[T]]), np.array([1], np.int32), backend=backend)
    assert np.mean((v - 0.5) ** 2) == pytest.approx(0.04463435859665334, abs=1e-15)
    network.backward(2.0 * (v - 0.5) / v.size)
    g = network.gradients
    for name, place, expected in (
        ("net_in.weight", (0, 0), -0.027026572),
        ("blocks.0.net1.1.weight", (1, 2), 0.001103379),
        ("blocks.0.cond_proj.1.weight", (2, 0), -0.000540272),
        ("blocks.0.net2.1.weight", (0, 1), 0.017760627),
        ("net_out.1.weight", (1, 1), -0.033259775),
        ("time_embedder.0.weight", (0, 3), 5.61e-7),
        ("time_embedder.2.bias", (2,), -0.004084419),
        ("attributes.y.weight", (1, 3), -0.005170918),
        ("attributes.y.weight", (0, 0), 0.0),
    ):
        assert g[name][place] == pytest.approx(expected, abs=1e-8), name


# --- against torch -------------------------------------------------------------------------------


def torch_twin(network: flow.VelocityNetwork, torch: Any) -> Any:
    """The same network, written in torch with the names of the official one."""
    hidden, embed, kind = network.hidden, network.embed, network.normalization
    t = torch.nn

    def norm() -> list[Any]:
        return {"none": [], "layer": [t.LayerNorm(hidden)], "batch": [t.BatchNorm1d(hidden)]}[kind]

    def sines(tau: Any) -> Any:
        f = torch.logspace(0, -4, embed // 2, dtype=torch.float64)
        angle = 1000.0 * tau * f
        return torch.cat([angle.sin(), angle.cos()], 1)

    class Block(t.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            drop = [t.Dropout(network.dropout)] if network.dropout else []
            self.net1 = t.Sequential(*norm(), t.SiLU(), t.Linear(hidden, hidden))
            self.cond_proj = t.Sequential(t.SiLU(), t.Linear(embed, hidden))
            self.net2 = t.Sequential(*norm(), t.SiLU(), *drop, t.Linear(hidden, hidden))

    class Twin(t.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            two = t.Linear(embed, embed), t.SiLU(), t.Linear(embed, embed)
            self.time_embedder = t.Sequential(*two)
            if network.size_range:
                again = t.Linear(embed, embed), t.SiLU(), t.Linear(embed, embed)
                self.size_factor_embedder = t.Sequential(*again)
            self.attributes = t.ModuleDict(
                {name: t.Embedding(k, embed) for name, k in network.attributes.items()}
            )
            self.net_in = t.Linear(network.dim, hidden)
            self.blocks = t.ModuleList([Block() for _ in range(network.blocks)])
            self.net_out = t.Sequential(*norm(), t.SiLU(), t.Linear(hidden, network.dim))

        def forward(self, x: Any, tau: Any, sizes: list[Any], labels: dict[str, Any]) -> Any:
            e = self.time_embedder(sines(tau))
            for size in sizes:
                e = e + self.size_factor_embedder(sines(size))
            for name, codes in labels.items():
                e = e + self.attributes[name](codes)
            h = self.net_in(x)
            for block in self.blocks:
                h = h + block.net2(block.net1(h) + block.cond_proj(e))
            return self.net_out(h)

    return Twin().double().eval()


@pytest.mark.parametrize("options", [{}, {"dropout": 0.2}], ids=["plain", "dropout"])
@pytest.mark.parametrize("normalization", ["none", "layer", "batch"])
@pytest.mark.parametrize("modalities", [0, 1, 2])
def test_the_same_module_in_torch(
    modalities: int, normalization: str, options: dict[str, Any], start: Any
) -> None:
    torch = pytest.importorskip("torch")
    ranges = [(5.0, 9.0), (4.0, 8.0)][:modalities] or None
    network = flow.VelocityNetwork(
        3,
        8,
        6,
        2,
        attributes={"a": 3, "b": 2},
        size_range=ranges,
        normalization=normalization,
        dtype="float64",
        **options,
    )
    torch.manual_seed(0)
    twin = torch_twin(network, torch)
    network.load_state_dict(twin)  # by name: none is missing and none is left over
    rng = np.random.default_rng(0)
    t, log_size = rng.random(100), rng.uniform(5.0, 8.0, (100, modalities))
    labels = {"a": rng.integers(0, 3, 100), "b": rng.integers(0, 2, 100)}
    got = network.velocity(start, t, labels, log_size=log_size if modalities else None)
    scaled = [
        torch.from_numpy((log_size[:, i : i + 1] - low) / (high - low))
        for i, (low, high) in enumerate(network.size_range)
    ]
    codes = {name: torch.from_numpy(value) for name, value in labels.items()}
    with torch.no_grad():
        expected = twin(torch.from_numpy(start), torch.from_numpy(t)[:, None], scaled, codes)
    assert np.allclose(got, expected.numpy(), rtol=0, atol=1e-12)


# --- conditions and guidance ---------------------------------------------------------------------


def test_zero_blocks_see_neither_time_nor_label(start: Any) -> None:
    network = flow.VelocityNetwork(3, attributes={"a": 3}, dtype="float64")
    one = network.velocity(start, 0.1, {"a": 0})
    assert np.array_equal(one, network.velocity(start, 0.9, {"a": 2}))


def test_rows_have_labels_of_their_own(start: Any, backend: str) -> None:
    network = scrambled()
    codes = np.arange(100) % 4 - 1
    for settings in ({"method": "midpoint", "steps": 3}, {}):
        mixed = flow.integrate(network, start, labels={"a": codes}, backend=backend, **settings)
        for code in (-1, 0, 1, 2):
            rows = codes == code
            alone = flow.integrate(
                network, start[rows], labels={"a": code}, backend=backend, **settings
            )
            exact = backend == "cpp"
            assert np.allclose(mixed[rows], alone, rtol=0, atol=0.0 if exact else 1e-12)


@pytest.mark.parametrize("settings", [{"method": "rk4", "steps": 4}, {}, {"step_control": "batch"}])
def test_shortcuts_of_guidance(start: Any, backend: str, settings: dict[str, Any]) -> None:
    network = scrambled()

    def run(**conditions: Any) -> Any:
        return flow.integrate(network, start, backend=backend, **conditions, **settings)

    labels = {"a": 1, "b": 0}
    assert np.array_equal(run(labels={"a": 1}, weights=1.0), run(labels={"a": 1}))
    assert np.array_equal(run(labels=labels, weights=0.0), run())
    assert np.array_equal(run(labels=labels, weights={"a": 1.0, "b": 0.0}), run(labels={"a": 1}))
    guided = flow.guided_velocity(network, labels, {"a": 2.0, "b": 0.5})
    assert np.array_equal(
        flow.integrate(guided, start, backend=backend, **settings),
        run(labels=labels, weights={"a": 2.0, "b": 0.5}),
    )


def test_the_formula_of_guidance(start: Any, backend: str) -> None:
    network = scrambled()
    none = network.velocity(start, 0.3, backend=backend)
    a = network.velocity(start, 0.3, {"a": 2}, backend=backend)
    b = network.velocity(start, 0.3, {"b": 1}, backend=backend)
    both = {"a": 2, "b": 1}
    got = network.velocity(start, 0.3, both, weights={"a": 1.5, "b": 3.0}, backend=backend)
    assert np.allclose(got, none + 1.5 * (a - none) + 3.0 * (b - none), rtol=0, atol=1e-12)
    guided = flow.guided_velocity(network, both, {"a": 1.5, "b": 3.0})
    assert np.allclose(guided(start, 0.3), got, rtol=0, atol=1e-13)
    explicit = none + 1.0 * (a - none)
    assert np.allclose(explicit, a, rtol=0, atol=1e-12)


def test_weights_may_differ_by_row(start: Any, backend: str) -> None:
    network = scrambled()
    weights = np.linspace(0.0, 2.0, 100)
    settings: dict[str, Any] = {"method": "heun", "steps": 3, "backend": backend}
    mixed = flow.integrate(network, start, labels={"a": 1}, weights=weights, **settings)
    for row in (0, 40, 99):
        alone = flow.integrate(
            network, start[row : row + 1], labels={"a": 1}, weights=weights[row], **settings
        )
        assert np.allclose(mixed[row], alone[0], rtol=0, atol=1e-12)


def test_backends_agree(start: Any) -> None:
    network = scrambled(size_range=(5.0, 9.0))
    size = np.linspace(5.0, 9.0, 100)
    for settings in ({"method": "rk4", "steps": 5}, {"rtol": 1e-6, "atol": 1e-6}):
        conditions = {"labels": {"a": 1, "b": 0}, "weights": 1.3, "log_size": size, **settings}
        native = flow.integrate(network, start, backend="cpp", **conditions)
        twin = flow.integrate(network, start, backend="numba", **conditions)
        assert np.allclose(native, twin, rtol=0, atol=1e-9)


@pytest.mark.parametrize("settings", [{"method": "midpoint", "steps": 3}, {}])
def test_a_row_alone_and_threads(start: Any, threads: int, settings: dict[str, Any]) -> None:
    network = scrambled()
    codes = np.arange(100) % 3
    conditions = {"labels": {"a": codes, "b": 1}, "weights": 2.0}
    whole = flow.integrate(network, start, num_threads=1, **conditions, **settings)
    again = flow.integrate(network, start, num_threads=threads, **conditions, **settings)
    assert np.array_equal(whole, again)
    for row in (0, 63, 64, 99):
        labels = {"a": codes[row], "b": 1}
        alone = flow.integrate(
            network, start[row : row + 1], labels=labels, weights=2.0, **settings
        )
        assert np.array_equal(alone[0], whole[row])


@pytest.mark.parametrize("kind", ["layer", "batch"])
def test_normalised_networks(start: Any, backend: str, kind: str) -> None:
    network = scrambled(normalization=kind)
    if kind == "batch":
        for name, value in network.buffers.items():
            value[...] = np.random.default_rng(len(name)).random(value.shape) + 0.5
    settings: dict[str, Any] = {"method": "rk4", "steps": 4}
    got = flow.integrate(network, start, labels={"a": 0}, backend=backend, **settings)

    def field(z: Any, t: Any) -> Any:
        return network.velocity(z, t, {"a": 0}, backend="numba")

    assert np.allclose(got, flow.integrate(field, start, **settings), rtol=0, atol=1e-10)


def test_other_networks(start: Any, backend: str) -> None:
    b = nn.ProgramBuilder()
    x, t, c = b.input(3), b.input(1), b.input(2)
    h = b.dense(x, 5, addend=b.dense(t, 5, name="t"), name="x")
    h = b.dense(c, 5, addend=h, activation="tanh", name="c")
    network = nn.Network(b.finish([b.dense(h, 3, name="out")]), dtype="float64")
    extra = np.random.default_rng(0).normal(size=(100, 2))
    settings: dict[str, Any] = {"method": "heun", "steps": 4}
    got = flow.integrate(network, start, inputs=[extra], backend=backend, **settings)

    def field(z: Any, t: Any) -> Any:
        return network.forward(z, t[:, None], extra, backend="numba")

    assert np.allclose(got, flow.integrate(field, start, **settings), rtol=0, atol=1e-12)


# --- sizes, files, errors ------------------------------------------------------------------------


def test_sizes() -> None:
    small = flow.VelocityNetwork(50, size="small")
    assert (small.hidden, small.embed, small.blocks) == (32, 20, 3)
    big = flow.VelocityNetwork(50, size="big", attributes={"a": 7})
    assert (big.hidden, big.embed, big.blocks) == (64, 100, 3)
    assert big.parameters["attributes.a.weight"].shape == (7, 100)
    assert big.dtype == np.float32


def test_initial_parameters() -> None:
    network = flow.VelocityNetwork(50, size="big", attributes={"a": 40}, dtype="float64", seed=3)
    for name, value in network.parameters.items():
        if "net2" in name or "bias" in name:
            assert not value.any()
        elif "attributes" in name:
            assert value.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2.0 * value.size))
        else:
            scaled = value * np.sqrt(value.shape[1])
            assert scaled.std() == pytest.approx(1.0, abs=4.0 / np.sqrt(2.0 * value.size))
            assert np.abs(scaled).max() < 2.0 / 0.87962566


def test_save_load_copy(start: Any, tmp_path: Path) -> None:
    network = scrambled(size_range=[(5.0, 9.0), (4.0, 8.0)], normalization="layer")
    network.save(tmp_path / "velocity.npz")
    sizes = np.full((100, 2), 6.0)
    expected = network.velocity(start, 0.4, {"a": 1}, log_size=sizes)
    for other in (flow.VelocityNetwork.load(tmp_path / "velocity.npz"), network.copy()):
        assert other.attributes == {"a": 3, "b": 2}
        assert other.size_range == network.size_range
        assert np.array_equal(other.velocity(start, 0.4, {"a": 1}, log_size=sizes), expected)
    plain = nn.Network(network.program)
    plain.save(tmp_path / "plain.npz")
    with pytest.raises(ValueError, match="a network of another kind"):
        flow.VelocityNetwork.load(tmp_path / "plain.npz")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"dim": 0}, ValueError, "`dim` must be an integer >= 1"),
        ({"hidden": 1.5}, TypeError, "`hidden` must be an integer"),
        ({"embed": 5}, ValueError, "`embed` must be even, got 5"),
        ({"blocks": 0}, ValueError, "`blocks` must be an integer >= 1"),
        ({"size": "tiny"}, ValueError, "`size` must be one of 'small', 'big'"),
        ({"size": "big", "hidden": 3}, ValueError, "`size` must be None where widths are given"),
        ({"attributes": ["a"]}, TypeError, "`attributes` must be a dict"),
        ({"attributes": {1: 2}}, TypeError, "`attributes` must be named by words"),
        ({"attributes": {"a": 0}}, ValueError, r"`attributes\['a'\]` must be an integer in"),
        ({"size_range": (2.0, 1.0)}, ValueError, "`size_range` must be pairs"),
        ({"size_range": [1.0, 2.0, 3.0]}, ValueError, "`size_range` must be pairs"),
        ({"normalization": "group"}, ValueError, "`normalization` must be one of"),
        ({"dropout": 1.0}, ValueError, "`dropout` must be below 1"),
        ({"dtype": "int8"}, TypeError, "`dtype` must be float32 or float64"),
        ({"seed": -1}, ValueError, "`seed` must be an integer"),
    ],
)
def test_wrong_settings(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        flow.VelocityNetwork(**({"dim": 2} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"z": np.zeros((4, 2))}, ValueError, r"`velocity` must take states of 2 columns"),
        ({"z": np.zeros((4, 3), np.float32)}, TypeError, "`z` must have dtype float64"),
        ({"t": np.zeros(3)}, ValueError, r"`t` must be one number or have shape \(4,\)"),
        ({"labels": {"c": 1}}, ValueError, r"`labels` must name attributes .*'a', 'b'"),
        ({"labels": {"a": 3}}, ValueError, r"`labels\['a'\]` must be codes from 0 to 2"),
        ({"labels": {"a": [0, 1, 2, 3]}}, ValueError, "got 3 in row 3"),
        ({"labels": {"a": [0, 1]}}, ValueError, r"be one code or have shape \(4,\)"),
        ({"labels": {"a": 0.5}}, TypeError, "array of integers"),
        ({"labels": np.zeros((4, 3), int)}, ValueError, "one column for each attribute"),
        ({"weights": 2.0}, ValueError, "`weights` must be None where nothing is conditioned on"),
        ({"log_size": None}, ValueError, "`log_size` must be given"),
        ({"log_size": np.zeros(3)}, ValueError, "`log_size` must have shape"),
    ],
)
def test_wrong_inputs(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    network = scrambled(size_range=(0.0, 1.0))
    given = {"z": np.zeros((4, 3)), "t": 0.5, "log_size": np.zeros(4)} | arguments
    with pytest.raises(error, match=message):
        network.velocity(given.pop("z"), given.pop("t"), given.pop("labels", None), **given)


def test_no_size_factors_where_none_are_embedded() -> None:
    with pytest.raises(ValueError, match="`log_size` must be None, as the network embeds no size"):
        scrambled().velocity(np.zeros((4, 3)), 0.5, log_size=np.zeros(4))
