"""One step of NSISA on gradients that came from elsewhere."""

from __future__ import annotations

import math
from typing import Any

from hotloops._runtime import validate
from hotloops._runtime.validate import fail
from hotloops.admm._orthogonalize import orthogonalize
from hotloops.admm._rule import make_rule
from hotloops.admm._step_run import NAMES, Run, collect_step
from hotloops.admm._tensors import collect

__all__ = ["nsisa_step"]


def nsisa_step(
    w: Any,
    G: Any,
    PI: Any,
    B: Any,
    V: Any = None,
    *,
    sigma: Any,
    rho: Any,
    alpha: Any = None,
    beta1: float = 0.95,
    ns_steps: int = 5,
    coefficients: str = "muon",
    scheme: str = "softsign",
    mu: float = 0.0,
    beta: float = 0.999,
    t: int = 1,
    eps: float = 1e-8,
    lam: float = 0.0,
    weight_decay: float = 0.0,
    grad_scale: float = 1.0,
    found_inf: Any = None,
    check_finite: bool = False,
    copy_to: Any = None,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> bool:
    """Do one step of NSISA on a matrix: SISA on orthogonalised momentum, in place.

    Parameters
    ----------
    w : array of shape (rows, columns)
        Updated.
    G : array of shape (clients, rows, columns), or list of one array for each client
        Gradients, of float16, bfloat16, float32 or float64.
    PI, B : like G, of the type of `w`
        Duals and momentum, zero at the start; updated. PI and V may be bfloat16 as in `sisa_step`.
    V : like PI, optional
        Second moments for the scheme "adam"; updated.
    sigma, rho, alpha : float or array of shape (clients,)
        As in `sisa_step`.
    beta1 : float
        Decay of the momentum.
    ns_steps : int
        Newton-Schulz steps; see `orthogonalize`.
    coefficients : {"muon", "polar"}
        See `orthogonalize`.
    scheme : {"softsign", "adam", "sigma_rho"}
        The denominator sigma + rho Q: Q is \\|u\\| (as in the authors' code), the root of the
        second moment of u, or 1.
    mu : float
        The update u also has mu w.
    beta, t, eps, lam, weight_decay, grad_scale : float
        As in `sisa_step`; weight decay is decoupled.
    found_inf : bool, number or array of one element, optional
        As in `sisa_step`.
    check_finite : bool
        As in `sisa_step`.
    copy_to : like w, of float16 or bfloat16, optional
        As in `sisa_step`.
    seed : int
        As in `sisa_step`.
    backend : {"cpp", "cuda", "numba"}, optional
    num_threads : int, optional

    Returns
    -------
    bool
        False if the step was skipped.

    Raises
    ------
    TypeError, ValueError
        As in `sisa_step`; `w` is not a matrix.

    Notes
    -----
    For every client ``B <- beta1 B + G``, ``O`` is the orthogonalisation of ``G + beta1 B`` times
    ``max(1, rows / columns)^(1/2)``, and u = O + pi + mu w takes the place of g + pi in `sisa_step`
    (section "NSISA" of Zhou et al., arXiv 2502.10784). The duals are not multiplied by alpha in
    every step, as the authors' script does: they would decay. Class B.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> w, state = np.eye(2), np.zeros((2, 1, 2, 2))
    >>> admm.nsisa_step(w, np.eye(2), state[0], state[1], sigma=80.0, rho=100.0)
    True
    >>> w.shape
    (2, 2)
    """
    name = "nsisa_step"
    validate.choice(name, "scheme", scheme, ("softsign", "adam", "sigma_rho"))
    if getattr(w, "ndim", 0) != 2:
        fail(ValueError, name, "w", "have 2 dimensions", str(getattr(w, "shape", "none")))
    decay = validate.real(name, "beta1", beta1, low=0.0, high=1.0)
    tensors = collect_step(name, w, G, PI, V, scheme, backend, copies=copy_to)
    momenta = collect(name, w, gradients=G, duals=B, names={**NAMES, "duals": "B"})
    extra = validate.real(name, "mu", mu, low=0.0)
    rule = make_rule(
        name,
        tensors.num_clients,
        alpha=alpha,
        sigma=sigma,
        rho=rho,
        scheme=scheme,
        beta=beta,
        t=t,
        eps=eps,
        lam=lam,
        weight_decay=weight_decay,
        grad_scale=grad_scale,
    )
    rule.clients[:, 3], rule.clients[:, 4] = 1.0, extra  # the momentum is scaled already
    run = Run(name, tensors, backend, num_threads)
    rounding = run.rounding(seed, t)
    if run.skips(found_inf, check_finite):
        return False
    shape = tuple(w.shape)
    ahead = run.momentum(momenta, shape, decay, float(grad_scale))
    orthogonal = orthogonalize(
        ahead, ns_steps, coefficients, out=ahead, backend=backend, num_threads=num_threads
    )
    orthogonal *= math.sqrt(max(1.0, shape[0] / shape[1]))
    tensors.gradients = [[array.reshape(-1) for array in orthogonal]]
    tensors.gradient_precision = str(tensors.dtype)
    run.sisa(rule, starts=True, finishes=True, rounding=rounding)
    return True
