"""One step of SISA on gradients that came from elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from hotloops._runtime import dispatch, validate
from hotloops._runtime.validate import fail
from hotloops.admm._rule import Rule, make_rule
from hotloops.admm._step_run import (
    NAMES,
    Run,
    check_regularizer,
    collect_step,
    one_client,
    regularize,
)
from hotloops.admm._tensors import collect

__all__ = ["sisa_finish", "sisa_step", "sisa_step_client"]


def sisa_step(
    w: Any,
    G: Any,
    PI: Any,
    V: Any = None,
    *,
    sigma: Any,
    rho: Any,
    alpha: Any = None,
    scheme: str = "adam",
    beta: float = 0.999,
    t: int = 1,
    eps: float = 1e-8,
    lam: float = 0.0,
    eta: float = math.inf,
    weight_decay: float = 0.0,
    decoupled: bool = True,
    regularizer: Any = None,
    grad_scale: float = 1.0,
    found_inf: Any = None,
    check_finite: bool = False,
    copy_to: Any = None,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> bool:
    """Do one step of SISA on the gradients of all clients, in place.

    Parameters
    ----------
    w : array, or list of arrays
        The global parameters, float32 or float64, C-contiguous and writable; updated. A list of
        tensors is one call of the kernel.
    G : array of shape (clients, \\*w.shape), or list of one array for each client
        Gradients at `w`, of float16, bfloat16, float32 or float64, converted as they are read.
        With one client, also an array of the shape of `w`. For a list `w`, a list of these.
    PI, V : like G, of the type of `w`, or of bfloat16 where `w` is float32
        Duals and second moments, zero at the start; updated. V is needed by the schemes "adagrad",
        "rmsprop" and "adam"; for "diag" it holds the diagonal and is only read. State in bfloat16
        is computed in float32 and rounded up or down at random, to the mean.
    sigma, rho : float or array of shape (clients,)
        The inverse of a step length, above zero; the weight of Q, not negative.
    alpha : array of shape (clients,), optional
        Weights of the clients; default 1 / clients.
    scheme : {"adam", "rmsprop", "adagrad", "diag", "identity", "softsign", "sigma_rho"}
        Q: the root of the second moment of u = gradient + dual by one of three rules, a diagonal,
        1, or \\|u\\|; "sigma_rho" is "identity" without `eps`.
    beta : float
        Decay of the second moment, in [0, 1].
    t : int
        Number of this step from 1 on, for the correction of the bias of "adam".
    eps : float
        Added to Q.
    lam : float
        Weight of the squared norm in the global step.
    eta : float
        Q never exceeds it; default no limit.
    weight_decay : float
        Decay w by ``weight_decay / (sigma + rho)`` before the step, or add
        ``weight_decay * w`` to the gradients if not `decoupled`.
    decoupled : bool
        Which of the two.
    regularizer : hotloops.prox.Prox, optional
        Its operator is applied to w, with the step 1 / (sum alpha sigma + lam).
    grad_scale : float
        Gradients are multiplied by it: the inverse of a loss scale.
    found_inf : bool, number or array of one element, optional
        Anything but zero leaves all state as it was. On a GPU it is not waited for.
    check_finite : bool
        Look for NaN and infinities first, at the price of reading the gradients once more, and
        leave all state as it was if there are any.
    copy_to : like w, of float16 or bfloat16, optional
        Receives w in the smaller precision.
    seed : int
        Only where PI and V are bfloat16: the random bits that round them are a function of it, of
        `t`, and of the place in the list, the client and the element. Default 0.
    backend : {"cpp", "cuda", "numba"}, optional
        Default: "cuda" for arrays on a GPU, else "cpp".
    num_threads : int, optional
        Default `hotloops.get_num_threads`; never changes the result.

    Returns
    -------
    bool
        False if the step was skipped. A `found_inf` on a GPU is for the GPU to know: True.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type, shape, range or device, or that share memory.

    Notes
    -----
    With ``u = g + pi`` and ``d = u / (sigma + rho (Q + eps))``, for every client
    ``pi <- pi - sigma d``, and ``w <- w + (sum alpha (pi - sigma d) - lam w) / (A + lam)`` with
    ``A = sum alpha sigma``: Algorithm 1 of Zhou et al. (arXiv 2502.10784) without the local copies,
    which are w - d. In this form w rests exactly where the sum is zero. Class A. One pass over
    memory: 20 bytes a parameter and client, and 8 for w, in float32; 12 and 8 with state in
    bfloat16. Sums of more than 64 clients are taken in parts of 64.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> w, target = np.zeros(3), np.array([1.0, -2.0, 3.0])
    >>> pi, v = np.zeros((1, 3)), np.zeros((1, 3))
    >>> for t in range(1, 400):
    ...     stepped = admm.sisa_step(w, w - target, pi, v, sigma=2.0, rho=1.0, t=t)
    >>> w.round(6)
    array([ 1., -2.,  3.])
    """
    tensors = collect_step("sisa_step", w, G, PI, V, scheme, backend, copies=copy_to)
    rule = make_rule(
        "sisa_step",
        tensors.num_clients,
        alpha=alpha,
        sigma=sigma,
        rho=rho,
        scheme=scheme,
        beta=beta,
        t=t,
        eps=eps,
        lam=lam,
        eta=eta,
        weight_decay=weight_decay,
        decoupled=decoupled,
        grad_scale=grad_scale,
    )
    check_regularizer("sisa_step", regularizer, copy_to)
    run = Run("sisa_step", tensors, backend, num_threads)
    rounding = run.rounding(seed, t)
    if run.skips(found_inf, check_finite):
        return False
    run.sisa(rule, starts=True, finishes=True, rounding=rounding)
    regularize(regularizer, w, rule)
    return True


def sisa_step_client(
    client: int,
    w: Any,
    g: Any,
    PI: Any,
    V: Any = None,
    *,
    s: Any,
    sigma: Any,
    rho: Any,
    alpha: Any = None,
    scheme: str = "adam",
    beta: float = 0.999,
    t: int = 1,
    eps: float = 1e-8,
    eta: float = math.inf,
    weight_decay: float = 0.0,
    decoupled: bool = True,
    grad_scale: float = 1.0,
    found_inf: Any = None,
    check_finite: bool = False,
    first: bool | None = None,
    seed: int = 0,
    backend: str | None = None,
    num_threads: int | None = None,
) -> bool:
    """Do the part of one client, for gradients that arrive one client at a time.

    Parameters
    ----------
    client : int
        Which client, from 0 on.
    w : array, or list of arrays
        The global parameters; read only where weight decay is coupled.
    g : like w
        Gradients of this client, of float16, bfloat16, float32 or float64.
    PI, V : array of shape (clients, \\*w.shape), or list of them
        The state of all clients as in `sisa_step`; that of this client is updated.
    s : like w, of the same type
        Receives the sum over clients for `sisa_finish`.
    sigma, rho, alpha : float or array of shape (clients,)
        As in `sisa_step`, for all clients.
    scheme : str
        As in `sisa_step`.
    beta, t, eps, eta : float
        As in `sisa_step`.
    weight_decay : float
        Here for coupled decay only; the decoupled one belongs to `sisa_finish`.
    decoupled : bool
        As in `sisa_step`.
    grad_scale : float
        As in `sisa_step`.
    found_inf : bool, number or array of one element, optional
        As in `sisa_step`.
    check_finite : bool
        As in `sisa_step`.
    first : bool, optional
        Whether `s` starts from here, whatever it held. Default: for client 0.
    seed : int
        As in `sisa_step`.
    backend : {"cpp", "cuda", "numba"}, optional
    num_threads : int, optional

    Returns
    -------
    bool
        False if the client was skipped; a first client that is skipped leaves `s` as it was too.

    Raises
    ------
    TypeError, ValueError
        As in `sisa_step`.

    See Also
    --------
    sisa_finish : The global part.

    Notes
    -----
    All clients in order, then `sisa_finish`, give the bits of `sisa_step` for up to 64 clients.
    Where every rank of a cluster is one client, it calls this with its own state, ``first=True``,
    its own weight, and reduces `s` over the ranks: one sum of w's size a step; with state in
    bfloat16 a seed of its own, too. Class A; 28 bytes a parameter in float32.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> w, s = np.zeros(3), np.empty(3)
    >>> pi, v = np.zeros((2, 3)), np.zeros((2, 3))
    >>> rule = dict(sigma=1.0, rho=1.0, t=1)
    >>> for client, target in enumerate([1.0, 3.0]):
    ...     done = admm.sisa_step_client(client, w, w - target, pi, v, s=s, **rule)
    >>> done = admm.sisa_finish(w, s, num_clients=2, sigma=1.0, rho=1.0)
    >>> w.round(4)
    array([1.25, 1.25, 1.25])
    """
    name = "sisa_step_client"
    states, num_clients = one_client(name, client, w, PI, V)
    tensors = collect_step(name, w, g, states["PI"], states["V"], scheme, backend, sums=s)
    rule = make_rule(
        name,
        num_clients,
        alpha=alpha,
        sigma=sigma,
        rho=rho,
        scheme=scheme,
        beta=beta,
        t=t,
        eps=eps,
        eta=eta,
        weight_decay=0.0 if decoupled else weight_decay,
        decoupled=decoupled,
        grad_scale=grad_scale,
    )
    own = Rule(rule.kind, rule.clients[client : client + 1], rule.scale, rule.shrink)
    starts = client == 0 if first is None else validate.boolean(name, "first", first)
    run = Run(name, tensors, backend, num_threads)
    rounding = run.rounding(seed, t, client, num_clients)
    if run.skips(found_inf, check_finite):
        return False
    run.sisa(own, starts=starts, finishes=False, rounding=rounding)
    return True


def sisa_finish(
    w: Any,
    s: Any,
    *,
    sigma: Any,
    rho: Any = 0.0,
    alpha: Any = None,
    num_clients: int | None = None,
    lam: float = 0.0,
    weight_decay: float = 0.0,
    regularizer: Any = None,
    found_inf: Any = None,
    copy_to: Any = None,
    backend: str | None = None,
    num_threads: int | None = None,
) -> bool:
    """Do the global part of a step whose clients came one at a time.

    Parameters
    ----------
    w : array, or list of arrays
        Updated.
    s : like w
        The sum that `sisa_step_client` left.
    sigma : float or array of shape (clients,)
        As in `sisa_step`, of all clients.
    rho : float or array of shape (clients,)
        Needed for decoupled weight decay only.
    alpha : array of shape (clients,), optional
        As in `sisa_step`.
    num_clients : int, optional
        Number of clients where sigma and alpha do not tell.
    lam, weight_decay : float
        As in `sisa_step`; weight decay here is the decoupled one.
    regularizer : hotloops.prox.Prox, optional
        As in `sisa_step`.
    found_inf : bool, number or array of one element, optional
        As in `sisa_step`.
    copy_to : like w, of float16 or bfloat16, optional
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
        As in `sisa_step`.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> w, s = np.ones(2), np.array([0.5, -0.5])
    >>> admm.sisa_finish(w, s, sigma=2.0, num_clients=1)
    True
    >>> w
    array([1.25, 0.75])
    """
    name = "sisa_finish"
    count = num_clients
    if count is None:
        count = next((np.size(x) for x in (alpha, sigma, rho) if np.ndim(x) == 1), None)
        if count is None:
            expectation = "be given where sigma and alpha are numbers"
            fail(ValueError, name, "num_clients", expectation, "None")
    count = validate.integer(name, "num_clients", count, low=1)
    native = dispatch.asked_backend(name, backend) in (None, "cpp")
    tensors = collect(name, w, sums=s, copies=copy_to, names=NAMES, at_once=native)
    rule = make_rule(
        name, count, alpha=alpha, sigma=sigma, rho=rho, lam=lam, weight_decay=weight_decay
    )
    check_regularizer(name, regularizer, copy_to)
    run = Run(name, tensors, backend, num_threads)
    if run.skips(found_inf, False):
        return False
    run.sisa(rule, starts=False, finishes=True)
    regularize(regularizer, w, rule)
    return True
