"""What the docstrings of the estimators share."""

from __future__ import annotations

__all__ = ["ATTRIBUTES", "NOTES", "PARAMETERS"]

PARAMETERS = """alpha : float
        Weight of the ridge ``alpha |coef|^2 / 2`` beside the mean loss; the intercept is free.
        Default 1e-4, as in scikit-learn's SGD.
    fit_intercept : bool
        Default True.
    step_size : "auto" or float
        The smallest step size, gamma. "auto" (the default) makes the larger one of the pair
        ``1 / (2 (h R^2 + alpha))``, with h the largest second derivative of the loss and ``R^2 =
        E|x|^4 / E|x|^2`` from the rows (with the column of ones). That is a quarter of the limit
        ``2 / (h R^2)`` beyond which the second moments of least squares on Gaussian rows explode.
        For other losses than squares it is shorter by ``sqrt(10,000 / steps)`` after more than
        10,000 averaged steps, since their bias is of order gamma^2 (a stream counts as 50,000).
        When the chain diverges all the same, `fit` begins again with a quarter of it.
    step_ratio : float
        The pair is ``(gamma, step_ratio * gamma)``. Default 2, the paper's.
    step_sizes : array_like, shape (J,), optional
        All step sizes, in place of the three parameters around this one.
    extrapolate : bool
        Combine two step sizes (the default), or average over one.
    n_passes : "auto" or int
        Averaged steps, in passes over the rows. "auto" (the default): 10, and at least 50,000 rows:
        the noise of drawing rows then adds a tenth to the variance, or less.
    burn_in : int, optional
        Steps that are not averaged. Default: in `fit` as many as averaged ones, the paper's choice;
        in `partial_fit` the first 2000 of the stream.
    batch_size : int
        Rows averaged in each step. Default 1.
    sampling : {{"iid", "reshuffle", "sequential"}}
        Rows of `fit` drawn with replacement (the default, the setting of the theory), by a new
        permutation in each pass, or in the order given. `partial_fit` takes the order given.
    num_chains : int
        Chains of `fit` with rows of their own, whose estimates are averaged. Default 1.
    covariance : {{"sandwich", "batch_means"}} or None
        Where `coef_cov_` comes from. "sandwich" (the default): ``H^{{-1}} S H^{{-1}}`` with Hessian
        and scores of all rows at the estimate, one more pass of O(n_features^2) a row; it is exact
        where the averages of SGD are, and needs no mixing. "batch_means": from 20 batches of the
        path, with no Hessian, for rows drawn with replacement or a stream; it is too small when
        gamma times the smallest curvature times the steps of a batch is below about 20.
    random_state : int, RandomState or None
        Default None.
    num_threads : int, optional
        Chains that run at the same time. Default `hotloops.get_num_threads`.
    backend : {{"cpp", "numba"}}, optional
        Default "cpp"."""

ATTRIBUTES = """coef_cov_ : ndarray or None
        Covariance of coefficients and intercept (the intercept last) about the parameter of the
        population: it holds the noise of sampling the rows and the noise of the steps.
    optimization_cov_ : ndarray or None
        The part of it that longer runs make smaller: the covariance about the minimiser of the
        objective on these rows. None after `partial_fit`.
    step_sizes_ : ndarray, shape (J,)
        The step sizes used.
    t_ : int
        Steps made, with the burn-in.
    n_iter_ : int
        Passes over the rows, with the burn-in.
    n_features_in_ : int
        Number of features.
    feature_names_in_ : ndarray of str
        Their names, when all of them are strings."""

NOTES = """Features are not standardised: put a ``StandardScaler`` before it. The number of steps
    that the start needs to be forgotten grows with the ratio of the largest to the smallest
    curvature.

    Class A for given `random_state`: the same bits for each number of threads, instruction set and
    backend. With ``sampling="iid"`` a fit does not depend on the order of the rows. Weights of
    `fit` are probabilities of being drawn, so the expected gradient is the weighted one for every
    loss, and while ``n_passes="auto"`` makes 50,000 draws a weight of 3 gives what three equal rows
    give. In `partial_fit` a weight is the expected number of times that the row is used.

    A step costs O(n_features) for each step size and output; memory beside X is 8 MB a chain for a
    block of dense rows, the indices of the rows and O(n_features^2) for the covariance. Sparse rows
    are made dense block by block: steps cost O(n_features), whatever the sparsity."""
