"""A network: a program together with its parameters."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy.typing as npt

from hotloops._runtime import arrays, dispatch, threads, validate
from hotloops._runtime.arrays import Library
from hotloops._runtime.validate import describe, fail
from hotloops.nn._initial import initial_buffers, initial_parameters
from hotloops.nn._layout import BATCH_NORM, Operand, Program
from hotloops.nn._parameters import Parameters
from hotloops.nn._tables import Batch, read_inputs

if TYPE_CHECKING:
    from hotloops.nn._train import TrainResult

__all__ = ["Network", "kernels_of"]

Array: TypeAlias = npt.NDArray[Any]

_MAX_SEED = 2**64 - 1


class Network(Parameters):
    """A program with parameters: forward, backward, training, files.

    Parameters
    ----------
    program : Program
        What `ProgramBuilder.finish` returned.
    dtype : {"float32", "float64"}
        Of parameters, inputs and outputs; default float32.
    seed : int
        Of the initial parameters (stream 14) and of dropout (stream 15). The same on each backend.

    Attributes
    ----------
    program : Program
    dtype : dtype
    seed : int
    parameters : dict of ndarray
        Views of `flat_parameters` by name, as the kernels store them; write to them in place.
    gradients : dict of ndarray
        The same of `flat_gradients`, which `backward` fills.
    flat_parameters, flat_gradients : ndarray, shape (num_parameters,)
    buffers : dict of ndarray
        Running means and variances of batch norms.

    Raises
    ------
    TypeError, ValueError
        Arguments of the wrong type or range.

    See Also
    --------
    MLP, ResidualMLP : Networks that need no builder.

    Notes
    -----
    Gradients are derived by hand for each layer; nothing is recorded or traced. Class B: the same
    bits over threads on one backend, close between backends (products of matrices call BLAS).
    A forward pass costs 2 operations for each weight and row, a backward pass twice that.
    Parameters live in host memory; inputs on a GPU run on the "cuda" backend, which sends them
    there for the call, and answers live where the inputs do.

    Examples
    --------
    >>> import numpy as np
    >>> from hotloops import nn
    >>> b = nn.ProgramBuilder()
    >>> x = b.input(2)
    >>> y = b.dense(b.dense(x, 3, activation="tanh", name="hidden"), 1, name="last")
    >>> network = nn.Network(b.finish([y]), dtype="float64")
    >>> network.forward(np.zeros((4, 2))).shape
    (4, 1)
    >>> network.backward(np.ones((4, 1))).shape
    (4, 2)
    >>> network.gradients["last.bias"]
    array([4.])
    """

    def __init__(self, program: Program, *, dtype: Any = "float32", seed: int = 0) -> None:
        name = type(self).__name__
        if not isinstance(program, Program):
            expectation = "be what `ProgramBuilder.finish` returned"
            fail(TypeError, name, "program", expectation, describe(program))
        kind = validate.float_dtype(name, "dtype", dtype)
        self.seed = validate.integer(name, "seed", seed, low=0, high=_MAX_SEED)
        parameters = initial_parameters(program, self.seed, kind)
        self._fill(program, parameters, initial_buffers(program, kind))

    def _fill(self, program: Program, parameters: Array, buffers: Array) -> None:
        super()._fill(program, parameters, buffers)
        # The last pass, its library and rows. Whoever works with it takes it out: calls from
        # several threads never share the memory of a pass.
        self._passes: list[tuple[Any, Library, int]] = []

    def __repr__(self) -> str:
        inputs = ", ".join(str(width) for width in self.program.input_widths)
        outputs = ", ".join(str(operand.width) for operand in self.program.outputs)
        return (
            f"{type(self).__name__}(inputs=({inputs}), outputs=({outputs}), "
            f"parameters={self.num_parameters}, dtype={self.dtype})"
        )

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Return ``forward(*inputs, **keywords)``."""
        return self.forward(*inputs, **keywords)

    # --- passes ----------------------------------------------------------------------------------

    def forward(
        self,
        *inputs: Any,
        training: bool = False,
        step: int = 0,
        out: Any = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """Compute the outputs of a batch.

        Parameters
        ----------
        *inputs : arrays
            In the order of the program: dense inputs of shape (rows, width), then CSR tables (of
            SciPy, or dense arrays), then tables of indices of shape (rows,), -1 for none. Those
            that are arrays live in one place, in host memory or on a GPU; CSR tables of SciPy are
            sent there.
        training : bool
            Batch norms use the statistics of the batch and move the running ones, dropout drops.
        step : int
            Picks the mask of dropout; default 0.
        out : array or tuple of arrays, optional
            Memory for the outputs.
        backend : {"cpp", "cuda", "numba"}, optional
            Default: "cuda" for arrays on a GPU, else "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        array or tuple of arrays, shape (rows, width)
            Of the library of the inputs; `out` itself where it was given.

        Raises
        ------
        TypeError, ValueError
            Inputs of the wrong number, type, shape or range, on several devices, or not finite; a
            single row for a batch norm in training.
        hotloops.BackendUnavailable
            The backend cannot run here, or lacks cuBLAS.
        """
        where = f"{type(self).__name__}.forward"
        batch, library = read_inputs(where, self.program, inputs, self.dtype)
        validate.boolean(where, "training", training)
        number = validate.integer(where, "step", step, low=0, high=2**48 - 1)
        self._check_training(where, training, batch.num_rows)
        targets = self._targets(where, out, batch, library)
        count = threads.resolve_num_threads(where, num_threads)
        kernels = kernels_of(dispatch.resolve_backend(where, backend, library.device))
        memory = self.flat_parameters, self.flat_buffers
        before = self._take_pass()
        with arrays.stream_context(library):
            run = kernels.Run(
                self.program,
                *memory,
                batch,
                training,
                self.seed,
                number,
                count,
                None if before is None else before[0],
            )
            for operand, target in zip(self.program.outputs, targets, strict=True):
                run.read(operand, target)
        self._passes[:] = [(run, library, batch.num_rows)]
        if out is not None:
            return out
        answers = tuple(arrays.export_array(target, library) for target in targets)
        return answers[0] if len(answers) == 1 else answers

    def backward(self, gradient: Any) -> Any:
        """Compute gradients after `forward`, of the sum of outputs times `gradient`.

        Those of the parameters are written to `gradients`, in host memory, over what was there.

        Parameters
        ----------
        gradient : array or tuple of arrays, shape (rows, width)
            One for each output of the forward pass before, in the place of its inputs.

        Returns
        -------
        array, tuple of arrays, or None
            Gradients of the dense inputs, of their library.

        Raises
        ------
        TypeError, ValueError
            Gradients that don't fit the outputs; no forward pass before.
        """
        where = f"{type(self).__name__}.backward"
        last = self._take_pass()
        if last is None:
            raise ValueError(f"{where}: `forward` must come before")
        run, library, num_rows = last
        try:
            gradients: list[Array] = []
            for name, operand, value in self._per_output(where, "gradient", gradient):
                native = _import(where, name, value, library)
                shape = num_rows, operand.width
                checked = validate.array(where, name, native, shape=shape, dtype=self.dtype)
                gradients.append(checked)
            with arrays.stream_context(library):
                found = run.backward(gradients, self.flat_gradients)
        finally:
            self._passes[:] = [last]
        answers = tuple(arrays.export_array(item, library) for item in found)
        if len(answers) < 2:
            return answers[0] if answers else None
        return answers

    def predict(
        self,
        *inputs: Any,
        out: Any = None,
        block_size: int = 1024,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> Any:
        """Compute the outputs of many rows in blocks, not in training.

        Parameters
        ----------
        *inputs : arrays
            As in `forward`.
        out : array or tuple of arrays, optional
            Memory for the outputs.
        block_size : int
            Rows at a time; only the activations of that many are in memory. Default 1024.
        backend : {"cpp", "cuda", "numba"}, optional
            Default: "cuda" for arrays on a GPU, else "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        array or tuple of arrays, shape (rows, width)
            Of the library of the inputs; `out` itself where it was given.

        Raises
        ------
        TypeError, ValueError, hotloops.BackendUnavailable
            As in `forward`.
        """
        where = f"{type(self).__name__}.predict"
        batch, library = read_inputs(where, self.program, inputs, self.dtype)
        size = validate.integer(where, "block_size", block_size, low=1)
        targets = self._targets(where, out, batch, library)
        count = threads.resolve_num_threads(where, num_threads)
        kernels = kernels_of(dispatch.resolve_backend(where, backend, library.device))
        memory = self.flat_parameters, self.flat_buffers
        with arrays.stream_context(library):
            kernels.predict(self.program, *memory, batch, targets, size, count)
        if out is not None:
            return out
        answers = tuple(arrays.export_array(target, library) for target in targets)
        return answers[0] if len(answers) == 1 else answers

    def _take_pass(self) -> tuple[Any, Library, int] | None:
        try:
            return self._passes.pop()
        except IndexError:
            return None

    def _check_training(self, where: str, training: bool, num_rows: int) -> None:
        if training and num_rows < 2 and self.program.uses(BATCH_NORM):
            expectation = "have at least two rows where a batch norm is trained"
            fail(ValueError, where, "inputs", expectation, str(num_rows))

    def _per_output(self, where: str, name: str, value: Any) -> list[tuple[str, Operand, Any]]:
        outputs = self.program.outputs
        if len(outputs) == 1:
            return [(name, outputs[0], value)]
        if not isinstance(value, tuple | list) or len(value) != len(outputs):
            fail(TypeError, where, name, f"be {len(outputs)} arrays", describe(value))
        return [
            (f"{name}[{i}]", operand, item)
            for i, (operand, item) in enumerate(zip(outputs, value, strict=True))
        ]

    def _targets(self, where: str, out: Any, batch: Batch, library: Library) -> list[Array]:
        if out is None:
            return [
                arrays.empty((batch.num_rows, operand.width), self.dtype, library)
                for operand in self.program.outputs
            ]
        targets = {}
        for name, operand, value in self._per_output(where, "out", out):
            if not hasattr(value, "dtype"):  # a list would be copied and never filled
                fail(TypeError, where, name, "be an array", describe(value))
            native = _import(where, name, value, library)
            shape = batch.num_rows, operand.width
            targets[name] = validate.output(where, name, native, shape=shape, dtype=self.dtype)
        inputs = {f"inputs[{i}]": table for i, table in enumerate(batch.dense)}
        validate.no_overlap(where, targets, inputs)
        return list(targets.values())

    # --- training --------------------------------------------------------------------------------

    def fit(
        self,
        x: Any,
        y: Any,
        *,
        loss: str = "mean_squared_error",
        delta: float = 1.0,
        epochs: int | None = None,
        num_steps: int | None = None,
        batch_size: int = 128,
        optimizer: Any = None,
        ema: float | None = None,
        seed: int = 0,
        state: Any = None,
        callback: Any = None,
        callback_steps: int | None = None,
        progress: bool = False,
        max_seconds: float | None = None,
        backend: str | None = None,
        num_threads: int | None = None,
    ) -> TrainResult:
        """Train the network, in place, to predict y from x.

        Parameters
        ----------
        x : array, CSR matrix or tuple of them
            Inputs as `forward` takes them; a tuple for several.
        y : array, shape (rows, columns) or (rows,)
            Numbers; labels for ``"cross_entropy"``; a CSR matrix for counts, or where it is wanted
            for ``"binary_cross_entropy"``. In the place of `x`: arrays on a GPU train there.
        loss : str
            ``"mean_squared_error"`` (default), ``"huber"``, ``"cross_entropy"``,
            ``"binary_cross_entropy"`` or ``"poisson"``: the functions of these names.
        delta : float
            Of Huber's loss.
        epochs, num_steps : int, optional
            Passes over the rows, or steps; 10 epochs where neither is given. Each epoch has an
            order of its own (stream 7) and leaves out the rows of an incomplete last batch.
        batch_size : int
            Rows of a step; default 128, or all rows where there are fewer.
        optimizer : Adam or AdamW, optional
            Its numbers; the moments are kept in the result. Default ``AdamW()``.
        ema : float, optional
            Decay of a moving average of the parameters, ``result.state.average``; default none.
        seed : int
            Of the order of rows and of dropout.
        state : TrainState, optional
            ``result.state`` of a run before, to go on from with the same bits as one long run.
        callback : callable, optional
            Called with a `Report` after every `callback_steps` steps; a true answer stops.
        callback_steps : int, optional
            Default: an epoch.
        progress : bool
            Show a bar.
        max_seconds : float, optional
            Stop after this time.
        backend : {"cpp", "cuda", "numba"}, optional
            Default: "cuda" for arrays on a GPU, else "cpp".
        num_threads : int, optional
            Default `hotloops.get_num_threads`; never changes the result.

        Returns
        -------
        TrainResult
            Losses of the steps, and the state to go on from.

        Raises
        ------
        TypeError, ValueError
            Arguments of the wrong type, shape or range.
        hotloops.NumericalError
            The loss isn't finite; the network is then as it was before.
        hotloops.BackendUnavailable
            The backend cannot run here, or lacks cuBLAS.

        Notes
        -----
        Class B. A step costs about 6 operations for each weight and row of the batch, and 16 bytes
        of traffic for each parameter; Python is entered once for all steps, on a GPU once for each
        launch. Parameters and state are in host memory before and after.
        """
        from hotloops.nn._fit import fit

        if epochs is None and num_steps is None:
            epochs = 10
        inputs = x if isinstance(x, tuple) else (x,)
        options = {
            "epochs": epochs,
            "num_steps": num_steps,
            "batch_size": batch_size,
            "optimizer": optimizer,
            "ema": ema,
            "seed": seed,
            "state": state,
            "callback": callback,
            "callback_steps": callback_steps,
            "progress": progress,
            "max_seconds": max_seconds,
            "backend": backend,
            "num_threads": num_threads,
        }
        return fit(self, inputs, y, loss, delta, options)


def kernels_of(backend: str) -> Any:
    """Return the module of a backend's kernels."""
    return importlib.import_module(f"hotloops.nn._{backend}")


def _import(where: str, name: str, value: Any, library: Library) -> Any:
    """Return an array that has to live where the inputs do."""
    native, own = arrays.import_array(where, name, value)
    if own.place != library.place:
        expectation = f"live on {library.place} like the inputs"
        fail(TypeError, where, name, expectation, f"an array on {own.place}")
    return native
