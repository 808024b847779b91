"""A network for scikit-learn whose rows belong to clients."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from scipy import special
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from hotloops._runtime import validate
from hotloops.admm._estimators_base import REAL, Classifier, Rows
from hotloops.admm._estimators_text import ATTRIBUTES, in_docstring
from hotloops.admm._losses import MLP

__all__ = ["ConsensusMLPClassifier"]


class ConsensusMLPClassifier(Classifier):
    __doc__ = f"""A network of dense layers for classification, trained over clients.

    It minimises the mean cross-entropy plus ``alpha / 2 |w|^2``, with one gradient of every client
    a round.

    Parameters
    ----------
    hidden_layer_sizes : tuple of int
        Default (32,).
    activation : {{"relu", "tanh", "gelu"}}
        Default "relu".
    alpha : float
        Weight of the penalty, zero or positive. Default 1e-4.
    batch_size : int, optional
        Rows that each client draws in a round. Default: all of them.
    scheme : {{"adam", "rmsprop", "adagrad", "identity"}}
        Default "adam".
    sigma, rho : float
        Penalty, positive, and weight of the preconditioner: slow steps have the length ``1 /
        sigma``. Defaults 1 and 20.
    max_iter : int
        Rounds, at most. Default 500.
    tol : float
        Both residuals of the consensus must fall to this, relative to the point and to the duals.
        Default 1e-4.
    class_weight : dict, "balanced" or None
        Default None.
    warm_start : bool
        Go on from the point and the duals of the last fit where shapes and clients agree. Default
        False.
    random_state : int, RandomState or None
        Of the first weights (Glorot's uniform law) and the batches. Default None.
    backend : {{"cpp", "numba"}}, optional
        Default "cpp".
    num_threads : int, optional
        Default: `hotloops.get_num_threads`.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    coefs_, intercepts_ : list of ndarray
        Weights (inputs, outputs) and biases of the layers.
    loss_ : float
        The objective at the end.
    {ATTRIBUTES}

    Notes
    -----
    Class A. A round costs a gradient of every client.

    Examples
    --------
    >>> from hotloops import admm, datasets
    >>> table = datasets.load_breast_cancer()
    >>> X = (table.X - table.X.mean(0)) / table.X.std(0)
    >>> model = admm.ConsensusMLPClassifier((8,), random_state=0, max_iter=200, tol=0.01)
    >>> model.fit(X, table.y, groups=table.y).score(X, table.y) > 0.95
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (32,),
        *,
        activation: str = "relu",
        alpha: float = 1e-4,
        batch_size: int | None = None,
        scheme: str = "adam",
        sigma: float = 1.0,
        rho: float = 20.0,
        max_iter: int = 500,
        tol: float = 1e-4,
        class_weight: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.alpha = alpha
        self.batch_size = batch_size
        self.scheme = scheme
        self.sigma = sigma
        self.rho = rho
        self.max_iter = max_iter
        self.tol = tol
        self.class_weight = class_weight
        self.warm_start = warm_start
        self.random_state = random_state
        self.backend = backend
        self.num_threads = num_threads

    @in_docstring
    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, *, groups: Any = None
    ) -> ConsensusMLPClassifier:
        """Fit to the rows of all clients.

        __FIT__
        """
        alpha = validate.real(self._name, "alpha", self.alpha, low=0.0)
        X, numbers = self._encode(X, y)
        rows: Rows = self._check_rows(X, self._class_weights(X, numbers, sample_weight), groups)
        sizes = self.hidden_layer_sizes
        sizes = (sizes,) if np.ndim(sizes) == 0 else tuple(sizes)
        loss = MLP(sizes, activation=self.activation)
        widths = [X.shape[1], *loss.hidden, self.classes_.size]
        generator = check_random_state(self.random_state)
        first = _glorot(generator, widths).astype(X.dtype)
        options = {
            "w0": first,
            "batch_size": self.batch_size,
            "seed": int(generator.randint(2**31 - 1)),
        }
        result = self._solve_whole(
            rows, loss, numbers, l2=alpha, num_classes=self.classes_.size, options=options
        )
        self.coefs_, self.intercepts_ = _split_layers(result.w, widths)
        self.loss_ = result.objective
        return self

    def decision_function(self, X: Any) -> Any:
        """Return the logits of the classes; for two classes how far the second's is above.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples,) or (n_samples, n_classes)
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes.

        Parameters
        ----------
        X : {array_like, CSR matrix}, shape (n_samples, n_features)

        Returns
        -------
        ndarray, shape (n_samples, n_classes)
        """
        return special.softmax(self._logits(X), axis=1)

    def _logits(self, X: Any) -> Any:
        check_is_fitted(self)
        h = validate_data(self, X, accept_sparse="csr", dtype=REAL, reset=False)
        last = len(self.coefs_) - 1
        for layer, (W, b) in enumerate(zip(self.coefs_, self.intercepts_, strict=True)):
            h = np.asarray(h @ W) + b
            if layer < last:
                h = _ACTIVATIONS[self.activation](h)
        return h


def _gelu(x: Any) -> Any:
    inner = 0.79788456080286535588 * (x + 0.044715 * x**3)
    return 0.5 * x * (1.0 + np.tanh(inner))


_ACTIVATIONS: dict[str, Any] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
    "gelu": _gelu,
}


def _glorot(generator: Any, widths: list[int]) -> Any:
    parts = []
    for inputs, outputs in itertools.pairwise(widths):
        bound = (6.0 / (inputs + outputs)) ** 0.5
        parts += [generator.uniform(-bound, bound, inputs * outputs), np.zeros(outputs)]
    return np.concatenate(parts)


def _split_layers(w: Any, widths: list[int]) -> tuple[list[Any], list[Any]]:
    weights, biases, at = [], [], 0
    for inputs, outputs in itertools.pairwise(widths):
        weights.append(w[at : at + inputs * outputs].reshape(inputs, outputs).copy())
        at += inputs * outputs
        biases.append(w[at : at + outputs].copy())
        at += outputs
    return weights, biases
