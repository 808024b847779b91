"""The parameters of a network: their names, copies and files."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hotloops._runtime import checkpoints as files
from hotloops._runtime import validate
from hotloops._runtime.validate import describe, fail
from hotloops.nn._layout import Program
from hotloops.nn._weights import read_state, views, write_state

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["Parameters"]

Array = npt.NDArray[Any]

_KIND, _VERSION = "nn.network", 1


class Parameters:
    """A program and the flat arrays of its parameters; what `Network` adds passes to."""

    seed: int

    def _fill(self, program: Program, parameters: Array, buffers: Array) -> None:
        self.program = program
        self.flat_parameters = parameters
        self.flat_gradients = np.zeros_like(parameters)
        self.flat_buffers = buffers
        self.parameters: Mapping[str, Array] = MappingProxyType(views(program, parameters))
        self.gradients: Mapping[str, Array] = MappingProxyType(views(program, self.flat_gradients))
        self.buffers: Mapping[str, Array] = MappingProxyType(
            {n: buffers[e.offset : e.offset + e.size] for n, e in program.buffers.items()}
        )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of parameters, inputs and outputs."""
        return self.flat_parameters.dtype

    @property
    def num_parameters(self) -> int:
        """How many numbers a training run changes."""
        return self.flat_parameters.size

    def state_dict(self) -> dict[str, Array]:
        """Return copies of parameters and running statistics by name, in torch's layout.

        Returns
        -------
        dict of ndarray
            For `load_state_dict`, ``torch.from_numpy``, ``numpy.savez`` or safetensors.
        """
        return read_state(self.program, self.flat_parameters, self.flat_buffers)

    def load_state_dict(self, state: Any, *, prefix: str = "", strict: bool = True) -> None:
        """Copy parameters and running statistics in, by name.

        Parameters
        ----------
        state : dict of arrays, torch module, or path
            Arrays of any library, in torch's layout; a module stands for its ``state_dict()``; a
            path is that of a ``.safetensors`` or ``.npz`` file. Pickles are not read.
        prefix : str
            Only names that begin with it count, and it is cut off them.
        strict : bool
            Whether missing and unknown names are errors; shapes always are.

        Raises
        ------
        TypeError, ValueError
            Names or shapes that don't fit; nothing has changed then.
        """
        where = f"{type(self).__name__}.load_state_dict"
        if not isinstance(prefix, str):
            fail(TypeError, where, "prefix", "be a word", describe(prefix))
        validate.boolean(where, "strict", strict)
        memory = self.flat_parameters, self.flat_buffers
        write_state(where, self.program, state, prefix, strict, *memory)

    def copy(self) -> Self:
        """Return a network of the same program and parameters in memory of its own."""
        other = type(self).__new__(type(self))
        other.seed = self.seed
        other._fill(self.program, self.flat_parameters.copy(), self.flat_buffers.copy())
        return other

    def save(self, path: files.StrPath) -> None:
        """Write program, parameters and running statistics to an ``.npz`` file.

        Parameters
        ----------
        path : str or path-like
            Replaced by atomic rename.
        """
        files.save_npz(path, _KIND, _VERSION, *self.to_file())

    @classmethod
    def load(cls, path: files.StrPath) -> Self:
        """Read what `save` wrote.

        Parameters
        ----------
        path : str or path-like

        Returns
        -------
        Network
            Of the class that this is called on.

        Raises
        ------
        ValueError
            The file is cut, damaged or of another origin.
        """
        return cls.from_file(*files.load_npz(path, _KIND, _VERSION))

    def to_file(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """Return header and arrays of a file, for those who write more than a network."""
        program = self.program
        held = {name: getattr(program, name) for name in ("instructions", "constants", "widths")}
        held |= {"parameters": self.flat_parameters, "buffers": self.flat_buffers}
        return {"program": program.to_header(), "seed": self.seed}, held

    @classmethod
    def from_file(cls, header: Mapping[str, Any], held: Mapping[str, Array]) -> Self:
        """Return the network of `to_file`."""
        network = cls.__new__(cls)
        network.seed = int(header["seed"])
        program = Program.from_header(header["program"], held)
        network._fill(program, held["parameters"].copy(), held["buffers"].copy())
        return network
