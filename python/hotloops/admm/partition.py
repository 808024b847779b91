"""Ways to split the rows of a table over clients, as the literature on federated learning does.

Each returns a list with an array of row numbers for each client, in rising order, for the
``clients=`` of `hotloops.admm.solve` and its baselines.

References
----------
Q. Li, Y. Diao, Q. Chen, B. He, "Federated Learning on Non-IID Data Silos: An Experimental Study",
ICDE 2022, arXiv:2102.02079.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from hotloops._runtime import validate

__all__ = ["dirichlet", "feature_noise", "iid", "label_k", "quantity"]

Parts: TypeAlias = list[npt.NDArray[np.int64]]

_MAX_DRAWS = 1000


def iid(y: Any, num_clients: int, *, seed: int = 0) -> Parts:
    """Split the rows at random into parts of equal size.

    Parameters
    ----------
    y : int or array_like, shape (n,)
        Number of rows, or anything with a row for each.
    num_clients : int
        At most n.
    seed : int
        Default 0.

    Returns
    -------
    list of ndarray

    Examples
    --------
    >>> from hotloops import admm
    >>> [part.size for part in admm.partition.iid(10, 3)]
    [4, 3, 3]
    """
    count, rng = _start("iid", y, num_clients, seed)
    return [np.sort(part) for part in np.array_split(rng.permutation(count), num_clients)]


def label_k(y: Any, num_clients: int, k: int = 1, *, seed: int = 0) -> Parts:
    """Give each client rows of k labels only.

    Labels are dealt out in turn, and the rows of a label are shared by the clients that have it.

    Parameters
    ----------
    y : array_like, shape (n,)
        Labels.
    num_clients : int
    k : int
        Labels of each client, at most as many as there are. Default 1. ``num_clients * k`` must
        reach the number of labels, or rows would belong to nobody.
    seed : int
        Default 0.

    Returns
    -------
    list of ndarray

    Examples
    --------
    >>> from hotloops import admm
    >>> parts = admm.partition.label_k([0, 0, 0, 1, 1, 1], 2)
    >>> [part.tolist() for part in parts]
    [[0, 1, 2], [3, 4, 5]]
    """
    function = "label_k"
    _, rng = _start(function, y, num_clients, seed)
    labels, numbers = _labels(function, y)
    validate.integer(function, "k", k, low=1, high=labels)
    if num_clients * k < labels:
        expectation = f"reach {labels} labels together with `k`"
        validate.fail(ValueError, function, "num_clients", expectation, f"{num_clients} x {k}")
    holders: list[list[int]] = [[] for _ in range(labels)]
    for client in range(num_clients):
        for j in range(k):
            holders[(client * k + j) % labels].append(client)
    parts: list[list[Any]] = [[] for _ in range(num_clients)]
    for label, owners in enumerate(holders):
        rows = rng.permutation(np.flatnonzero(numbers == label))
        for client, own in zip(owners, np.array_split(rows, len(owners)), strict=True):
            parts[client].append(own)
    return _finish(function, parts)


def dirichlet(
    y: Any, num_clients: int, beta: float = 0.5, *, min_rows: int = 10, seed: int = 0
) -> Parts:
    """Share the rows of each label by a Dirichlet law.

    A client that has ``n / num_clients`` rows gets none of the labels that follow. The shares are
    drawn again until every client has `min_rows`.

    Parameters
    ----------
    y : array_like, shape (n,)
        Labels.
    num_clients : int
    beta : float
        Concentration, positive: small values give each client few labels. Default 0.5.
    min_rows : int
        Default 10.
    seed : int
        Default 0.

    Returns
    -------
    list of ndarray

    Raises
    ------
    ValueError
        No draw of a thousand gave everybody enough rows.

    Examples
    --------
    >>> from hotloops import admm
    >>> parts = admm.partition.dirichlet([0] * 50 + [1] * 50, 3, beta=0.3)
    >>> sum(part.size for part in parts)
    100
    """
    function = "dirichlet"
    count, rng = _start(function, y, num_clients, seed)
    concentration = validate.real(function, "beta", beta, low=0.0, open_low=True)
    least = validate.integer(function, "min_rows", min_rows, low=1)
    labels, numbers = _labels(function, y)
    for _ in range(_MAX_DRAWS):
        parts: list[list[Any]] = [[] for _ in range(num_clients)]
        sizes = np.zeros(num_clients)
        for label in range(labels):
            rows = rng.permutation(np.flatnonzero(numbers == label))
            shares = rng.dirichlet(np.full(num_clients, concentration))
            shares = shares * (sizes < count / num_clients)
            if not shares.sum() > 0.0:
                break
            cuts = (np.cumsum(shares / shares.sum()) * rows.size).astype(np.int64)[:-1]
            for client, own in enumerate(np.split(rows, cuts)):
                parts[client].append(own)
                sizes[client] += own.size
        else:
            if sizes.min() >= least:
                return _finish(function, parts)
    raise _too_uneven(function, least)


def quantity(
    y: Any, num_clients: int, beta: float = 0.5, *, min_rows: int = 10, seed: int = 0
) -> Parts:
    """Split the rows at random into parts whose sizes follow a Dirichlet law.

    Parameters
    ----------
    y : int or array_like, shape (n,)
        Number of rows, or anything with a row for each.
    num_clients : int
    beta : float
        Concentration, positive: small values make few clients large. Default 0.5.
    min_rows : int
        The sizes are drawn again until every client has as many. Default 10.
    seed : int
        Default 0.

    Returns
    -------
    list of ndarray

    Raises
    ------
    ValueError
        No draw of a thousand gave everybody enough rows.

    Examples
    --------
    >>> from hotloops import admm
    >>> sum(part.size for part in admm.partition.quantity(100, 3))
    100
    """
    function = "quantity"
    count, rng = _start(function, y, num_clients, seed)
    concentration = validate.real(function, "beta", beta, low=0.0, open_low=True)
    least = validate.integer(function, "min_rows", min_rows, low=1)
    for _ in range(_MAX_DRAWS):
        shares = rng.dirichlet(np.full(num_clients, concentration))
        cuts = (np.cumsum(shares) * count).astype(np.int64)[:-1]
        parts = [np.sort(part) for part in np.split(rng.permutation(count), cuts)]
        if min(part.size for part in parts) >= least:
            return parts
    raise _too_uneven(function, least)


def feature_noise(
    X: Any, num_clients: int, noise: float = 0.1, *, seed: int = 0
) -> tuple[npt.NDArray[Any], Parts]:
    """Split the rows at random, and add more noise to the features of each next client.

    Parameters
    ----------
    X : array_like, shape (n, p), float32 or float64
        Dense features; they are copied.
    num_clients : int
        At least 2.
    noise : float
        Standard deviation for the last client; client i has ``noise * i / (num_clients - 1)``.
        Default 0.1.
    seed : int
        Default 0.

    Returns
    -------
    X : ndarray, shape (n, p)
        The features with noise.
    parts : list of ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import admm
    >>> X, parts = admm.partition.feature_noise(np.zeros((6, 2)), 3)
    >>> bool((X[parts[0]] == 0.0).all()), bool((X[parts[2]] == 0.0).any())
    (True, False)
    """
    function = "feature_noise"
    table = validate.array(function, "X", X, ndim=2, copy=True)
    scale = validate.real(function, "noise", noise, low=0.0)
    validate.integer(function, "num_clients", num_clients, low=2)
    count, rng = _start(function, table, num_clients, seed)
    parts = [np.sort(part) for part in np.array_split(rng.permutation(count), num_clients)]
    for client, rows in enumerate(parts):
        own = scale * client / (num_clients - 1)
        table[rows] += (own * rng.standard_normal((rows.size, table.shape[1]))).astype(table.dtype)
    return table, parts


def _start(function: str, y: Any, num_clients: int, seed: int) -> tuple[int, np.random.Generator]:
    """Return the number of rows and the generator of a call."""
    count = validate.integer(function, "y", y, low=1) if np.ndim(y) == 0 else len(y)
    validate.integer(function, "num_clients", num_clients, low=1, high=max(count, 1))
    return count, np.random.default_rng(
        validate.integer(function, "seed", seed, low=0, high=2**64 - 1)
    )


def _labels(function: str, y: Any) -> tuple[int, npt.NDArray[Any]]:
    labels = np.asarray(y)
    if labels.ndim != 1 or labels.dtype.kind not in "biufUSO":
        expectation = "be an array of labels, one for each row"
        validate.fail(TypeError, function, "y", expectation, validate.describe(y))
    names, numbers = np.unique(labels, return_inverse=True)
    return names.size, numbers


def _finish(function: str, parts: list[list[Any]]) -> Parts:
    joined = [np.sort(np.concatenate(part)) for part in parts]
    for client, rows in enumerate(joined):
        if rows.size == 0:
            expectation = "leave rows for every client"
            validate.fail(ValueError, function, "num_clients", expectation, f"none for {client}")
    return joined


def _too_uneven(function: str, least: int) -> ValueError:
    return ValueError(
        f"{function}: `beta` must leave {least} rows for every client in one of {_MAX_DRAWS} "
        "draws, got a law that is too uneven"
    )
