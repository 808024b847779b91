"""Models of the original code: the same names, the same numbers as torch."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.sparse as sp

from hotloops.flow import CFGen, CountAutoencoder, SizeFactorModel, VelocityNetwork

torch = pytest.importorskip("torch")

GENES, PEAKS = 30, 50


class Layers(torch.nn.Module):
    """Linear, batch norm and ELU, the last layer alone; the names of the original code."""

    def __init__(self, *widths):
        super().__init__()
        parts = []
        for width, following in itertools.pairwise(widths[:-1]):
            linear, norm = torch.nn.Linear(width, following), torch.nn.BatchNorm1d(following)
            parts.append(torch.nn.Sequential(linear, norm, torch.nn.ELU()))
        self.net = torch.nn.Sequential(*parts, torch.nn.Linear(*widths[-2:]))

    def forward(self, x):
        return self.net(x)


class Autoencoder(torch.nn.Module):
    def __init__(self, modalities, joint=None, groups=None):
        super().__init__()
        self.encoder = torch.nn.ModuleDict({k: Layers(*w) for k, w in modalities.items()})
        if joint:
            latent = sum(widths[-1] for widths in modalities.values())
            self.encoder_joint = Layers(latent, joint)
        ends = {k: [joint, *w[::-1]] if joint else w[::-1] for k, w in modalities.items()}
        self.decoder = torch.nn.ModuleDict({k: Layers(*w) for k, w in ends.items()})
        shape = (GENES,) if groups is None else (groups, GENES)
        self.theta = torch.nn.Parameter(torch.randn(shape))
        self.joint = joint

    def encode(self, x):
        parts = [self.encoder[name](value) for name, value in x.items()]
        return self.encoder_joint(torch.cat(parts, 1)) if self.joint else torch.cat(parts, 1)

    def decode(self, z):
        if self.joint:
            return {name: module(z) for name, module in self.decoder.items()}
        widths = [module.net[-1].out_features for module in self.encoder.values()]
        parts = torch.split(z, widths, 1)
        return {n: m(part) for (n, m), part in zip(self.decoder.items(), parts, strict=True)}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def shaken(module):
    """Give the running statistics values that an untrained module doesn't have."""
    for buffer in module.buffers():
        if buffer.dtype.is_floating_point:
            buffer.copy_(torch.rand_like(buffer) + 0.5)
    return module.double().eval()


def cells(width, seed=0):
    counts = np.random.default_rng(seed).poisson(1.0, (40, width))
    counts[:, 0] += 1
    return counts


def test_one_modality():
    theirs = shaken(Autoencoder({"rna": (GENES, 16, 8, 4)}))
    ours = CountAutoencoder.from_torch(theirs.state_dict(), dtype="float64")
    counts = cells(GENES)
    x = torch.log1p(torch.tensor(counts, dtype=torch.float64))
    with torch.no_grad():
        z = theirs.encode({"rna": x})
        rho = torch.softmax(theirs.decode(z)["rna"], 1).numpy()
    found = ours.encode(sp.csr_array(counts))
    np.testing.assert_allclose(found, z.numpy(), rtol=1e-9, atol=1e-10)
    totals = counts.sum(axis=1)
    mean = ours.decode(found, totals, output="mean")
    np.testing.assert_allclose(mean, rho * totals[:, None], rtol=1e-9)
    np.testing.assert_allclose(ours.theta_["rna"][0], theirs.theta.detach().exp().numpy())
    law = torch.distributions.NegativeBinomial(
        theirs.theta.detach().exp(),
        logits=torch.log(torch.tensor(mean)) - theirs.theta.detach(),
    )
    expected = law.log_prob(torch.tensor(counts, dtype=torch.float64)).sum(1).numpy()
    np.testing.assert_allclose(ours.log_likelihood(counts), expected, rtol=1e-9)


@pytest.mark.parametrize("joint", [None, 6])
@pytest.mark.parametrize("binarized", [False, True])
def test_two_modalities(joint, binarized):
    widths = {"rna": (GENES, 16, 5), "atac": (PEAKS, 12, 7, 3)}
    theirs = shaken(Autoencoder(widths, joint))
    ours = CountAutoencoder.from_torch(theirs.state_dict(), binarized=binarized, dtype="float64")
    counts = {"rna": cells(GENES), "atac": cells(PEAKS, 1)}
    peaks = counts["atac"] > 0 if binarized else np.log1p(counts["atac"])
    inputs = {"rna": torch.tensor(np.log1p(counts["rna"])), "atac": torch.tensor(peaks).double()}
    with torch.no_grad():
        z = theirs.encode(inputs)
        logits = theirs.decode(z)
    found = ours.encode(counts)
    np.testing.assert_allclose(found, z.numpy(), rtol=1e-8, atol=1e-9)
    counted = ["rna"] if binarized else ["rna", "atac"]
    sizes = {name: counts[name].sum(axis=1) for name in counted}
    mean = ours.decode(found, sizes, output="mean")
    for name, h in logits.items():
        expected = torch.softmax(h, 1).numpy() if name in counted else torch.sigmoid(h).numpy()
        scale = sizes[name][:, None] if name in counted else 1.0
        np.testing.assert_allclose(mean[name], expected * scale, rtol=1e-8)


def test_dispersions_of_categories():
    theirs = shaken(Autoencoder({"rna": (GENES, 8, 4)}, groups=2))
    ours = CountAutoencoder.from_torch(theirs.state_dict(), labels=["a", "b"])
    expected = theirs.theta.detach().exp().numpy()
    np.testing.assert_allclose(ours.theta_["rna"], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="`labels` must be one label for each of 2 cells"):
        CountAutoencoder.from_torch(theirs.state_dict())


def test_files_and_prefixes(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    theirs = shaken(Autoencoder({"rna": (GENES, 8, 4)}))
    state = {f"model.{name}": value for name, value in theirs.state_dict().items()}
    safetensors.save_file(state, tmp_path / "model.safetensors")
    ours = CountAutoencoder.from_torch(tmp_path / "model.safetensors", prefix="model.")
    again = CountAutoencoder.from_torch(theirs.state_dict())
    counts = cells(GENES)
    np.testing.assert_array_equal(ours.encode(counts), again.encode(counts))
    with pytest.raises(ValueError, match=r"from_torch: `state` must hold names that begin with 'x"):
        CountAutoencoder.from_torch(state, prefix="x.")
    with pytest.raises(ValueError, match=r"must hold names such as 'encoder\.rna\.net\.0\.0\.wei"):
        CountAutoencoder.from_torch({"a": np.zeros(3)})
    del state["model.theta"]
    with pytest.raises(ValueError, match="must hold 'theta', got nothing of that name"):
        CountAutoencoder.from_torch(state, prefix="model.")


def test_training_is_that_of_torch(simulated):
    """From the same start, one full batch a step, losses stay together for twenty steps."""
    theirs = Autoencoder({"rna": (GENES, 12, 8, 3)}).double()
    counts = simulated.counts
    rows = torch.tensor(counts.toarray(), dtype=torch.float64)
    ours = CountAutoencoder(
        3, (12, 8), epochs=1, batch_size=240, validation_share=0.0, dtype="float64"
    ).fit(counts, epochs=0)
    ours._fitting.network.load_state_dict(
        {**theirs.state_dict(), "theta": theirs.theta.detach()[None]}
    )
    ours.fit(counts, epochs=20, resume=True)
    optimizer = torch.optim.AdamW(theirs.parameters(), lr=1e-3, weight_decay=1e-5)
    losses = []
    totals = rows.sum(1, keepdim=True)
    for _ in range(20):
        h = theirs.decode(theirs.encode({"rna": torch.log1p(rows)}))["rna"]
        log_mu = torch.log(totals) + torch.log_softmax(h, 1)
        law = torch.distributions.NegativeBinomial(theirs.theta.exp(), logits=log_mu - theirs.theta)
        loss = -law.log_prob(rows).sum(1).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(ours.history_["train"], losses, rtol=1e-6)


def test_whole_model(tmp_path):
    autoencoder = shaken(Autoencoder({"rna": (GENES, 8, 4)}))
    network = VelocityNetwork(4, 8, 6, 2, attributes={"kind": 3}, size_range=(2.0, 5.0), seed=3)
    network.flat_parameters[:] += 0.05 * np.sin(np.arange(network.num_parameters))
    state = {f"denoising_model.{k}": torch.tensor(v) for k, v in network.state_dict().items()}
    table = state.pop("denoising_model.attributes.kind.weight")
    sizes = SizeFactorModel().fit(np.exp([3.0, 3.5, 4.0, 4.1, 3.2, 3.3]), list("aabbcc"))
    told = {
        "categories": {"kind": ["a", "b", "c"]},
        "size_factors": sizes,
        "size_range": (2.0, 5.0),
    }
    model = CFGen.from_torch(autoencoder.state_dict(), state, embeddings={"kind": table}, **told)
    z = model.sample(7, {"kind": "b"}, guidance=1.5, seed=2, output="latent")
    log_size = np.log(sizes.sample(7, "b", seed=2))
    expected = model.flow_.sample(7, {"kind": 1}, weights={"kind": 1.5}, log_size=log_size, seed=2)
    np.testing.assert_array_equal(z, expected)
    assert model.sample(7, {"kind": "b"}, seed=2).shape == (7, GENES)
    model.save(tmp_path / "model.npz")
    again = CFGen.load(tmp_path / "model.npz")
    np.testing.assert_array_equal(
        z, again.sample(7, {"kind": "b"}, guidance=1.5, seed=2, output="latent")
    )
    with pytest.raises(TypeError, match="`size_range` must be given, since the flow sees the size"):
        CFGen.from_torch(
            autoencoder.state_dict(),
            state,
            embeddings={"kind": table},
            categories={"kind": ["a", "b", "c"]},
        )
    with pytest.raises(ValueError, match="`embeddings` must hold the table of 'kind', which"):
        CFGen.from_torch(autoencoder.state_dict(), state, **told)
    with pytest.raises(ValueError, match="must hold sorted names, each once"):
        CFGen.from_torch(
            autoencoder.state_dict(),
            state,
            embeddings={"kind": table},
            **{**told, "categories": {"kind": ["b", "a", "c"]}},
        )
