"""Results on disk: ``.npz`` files with a JSON header and a checksum over the whole file.

The file is an ordinary uncompressed zip of ``header.json`` and one ``.npy`` member per array, so
`numpy.load` reads it too. The archive's comment ends with the CRC-32 of everything before it, so
that a cut or changed byte anywhere is found before a single array is looked at.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Mapping
from typing import IO, TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import zipfile

# json and zipfile are imported where they are used: they are half of what `import` would cost.

__all__ = ["load_npz", "save_npz"]

StrPath: TypeAlias = "str | os.PathLike[str]"

_FORMAT = "hotloops"
_HEADER = "header.json"
_SEAL = b"hotloops crc32 "
_SEAL_LENGTH = len(_SEAL) + 8
_BLOCK = 1 << 20


def save_npz(
    path: StrPath,
    kind: str,
    version: int,
    header: Mapping[str, Any],
    arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write a checkpoint by atomic rename: afterwards the file is the old or the new one, whole.

    Parameters
    ----------
    path : str or path-like
        File to write, exactly as named; a symbolic link keeps pointing at it.
    kind : str
        What the file holds, such as ``"sgd.run"``.
    version : int
        Version of that kind's layout.
    header : dict
        Everything that is not an array, as JSON.
    arrays : dict of ndarray
        Arrays of numbers or strings; object arrays are refused.
    """
    import json

    text = json.dumps(
        {"format": _FORMAT, "kind": kind, "version": int(version), "header": dict(header)},
        allow_nan=False,
    )
    members = {name: _plain(name, value) for name, value in arrays.items()}
    target = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(target), f".hotloops-{os.urandom(8).hex()}.tmp")
    try:
        # Opened this way, not by tempfile, so that the user's umask holds.
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | _O_BINARY, 0o666)
    except OSError as error:
        error.filename = target
        raise
    try:
        with os.fdopen(descriptor, "w+b") as file:
            _write(file, text, members)
            _seal(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _sync_folder(os.path.dirname(target))


def load_npz(
    path: StrPath, kind: str, max_version: int
) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Read a checkpoint; anything but a whole file of this kind is a `ValueError`.

    Parameters
    ----------
    path : str or path-like
        File written by `save_npz`.
    kind : str
        What the file must hold.
    max_version : int
        Newest layout that the caller understands.

    Returns
    -------
    header : dict
    arrays : dict of ndarray
    """
    import json
    import zipfile

    name = os.fspath(path)
    with open(path, "rb") as file:
        _check_seal(file, name)
        try:
            with zipfile.ZipFile(file) as archive:
                document = json.loads(archive.read(_HEADER))
                _check_document(document, name, kind, max_version)
                return document["header"], _read_arrays(archive)
        except (_ForeignFileError, OSError, MemoryError):
            raise
        except Exception as error:  # a dozen types, from zipfile, zlib, struct, json and NumPy
            raise ValueError(f"{name}: the file cannot be read as a checkpoint: {error}") from error


class _ForeignFileError(ValueError):
    """A file that is not what the caller asked for."""


_O_BINARY = getattr(os, "O_BINARY", 0)


def _plain(name: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
    array = np.asarray(value, order="C")
    if array.dtype.hasobject:
        raise TypeError(f"array '{name}' holds Python objects, which checkpoints do not store")
    return array


def _write(file: IO[bytes], header: str, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    import zipfile

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        archive.writestr(_HEADER, header)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
        archive.comment = _SEAL + b"0" * 8


def _seal(file: IO[bytes]) -> None:
    """Put the checksum of all that precedes it into the last eight bytes."""
    file.seek(0, os.SEEK_END)
    end = file.tell() - 8
    checksum = _checksum(file, end)
    file.seek(end)
    file.write(b"%08x" % checksum)


def _checksum(file: IO[bytes], end: int) -> int:
    file.seek(0)
    checksum, left = 0, end
    while left > 0:
        block = file.read(min(left, _BLOCK))
        if not block:
            break
        checksum = zlib.crc32(block, checksum)
        left -= len(block)
    return checksum


def _check_seal(file: IO[bytes], name: str) -> None:
    import zipfile

    end = file.seek(0, os.SEEK_END)
    file.seek(max(0, end - _SEAL_LENGTH))
    seal = file.read()
    if not seal.startswith(_SEAL) or len(seal) != _SEAL_LENGTH:
        if zipfile.is_zipfile(file):
            raise ValueError(f"{name}: not a hotloops checkpoint (a zip file of other origin)")
        file.seek(0)
        if b"PK\3\4".startswith(file.read(4)):
            raise ValueError(f"{name}: the file is cut or damaged ({end} bytes are left)")
        raise ValueError(f"{name}: not a hotloops checkpoint")
    if seal[len(_SEAL) :] != b"%08x" % _checksum(file, end - 8):
        raise ValueError(f"{name}: the file is damaged (its checksum differs)")
    file.seek(0)


def _check_document(document: Any, name: str, kind: str, max_version: int) -> None:
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise _ForeignFileError(f"{name}: not a hotloops checkpoint")
    if not isinstance(document.get("header"), dict) or type(document.get("version")) is not int:
        raise _ForeignFileError(f"{name}: not a hotloops checkpoint (its header is incomplete)")
    if document.get("kind") != kind:
        held = document.get("kind")
        raise _ForeignFileError(f"{name}: the checkpoint holds {held!r}, expected {kind!r}")
    if document["version"] > max_version:
        raise _ForeignFileError(
            f"{name}: the checkpoint has version {document['version']} of {kind!r}, newer than the "
            f"versions up to {max_version} that this hotloops reads"
        )


def _read_arrays(archive: zipfile.ZipFile) -> dict[str, npt.NDArray[Any]]:
    arrays: dict[str, npt.NDArray[Any]] = {}
    for member in archive.namelist():
        if member != _HEADER:
            with archive.open(member) as stream:
                arrays[member.removesuffix(".npy")] = np.lib.format.read_array(
                    stream, allow_pickle=False
                )
    return arrays


def _sync_folder(folder: str) -> None:
    """Make the rename itself durable where the system offers it."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
