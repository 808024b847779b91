"""Checkpoints come back as they were, or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import signal
import stat
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hotloops._runtime import checkpoints
from hotloops._runtime.checkpoints import load_npz, save_npz

HEADER = {"seed": 2**64 - 1, "gamma": [0.1, 1 / 3], "note": "grüß", "none": None}


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    return {
        "mean": np.linspace(0, 1, 6).reshape(3, 2),
        "state": np.array([1.5, np.nan, -0.0], np.float32),
        "step": np.array(7),
        "names": np.array(["a", "bc"]),
        "nothing": np.empty((0, 4)),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "run.npz"
    save_npz(file, "sgd.run", 2, HEADER, arrays())
    return file


def leftovers(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name != "run.npz")


def test_round_trip(path: Path) -> None:
    header, loaded = load_npz(path, "sgd.run", 2)
    assert header == HEADER
    assert list(loaded) == list(arrays())
    for name, array in arrays().items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].shape == array.shape
        assert loaded[name].tobytes() == array.tobytes()
        assert loaded[name].flags.writeable
    assert leftovers(path.parent) == []


def test_older_versions_are_read(path: Path) -> None:
    assert load_npz(str(path), "sgd.run", 3)[0] == HEADER


def test_numpy_reads_it_too(path: Path) -> None:
    with np.load(path) as archive:
        assert np.array_equal(archive["mean"], arrays()["mean"])
        assert json.loads(archive["header.json"])["header"] == HEADER


def test_any_layout_is_saved(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    base = np.arange(24.0).reshape(4, 6)
    saved = {"t": base.T, "s": base[::2, ::3], "swapped": base.astype(">f8")}
    save_npz(file, "k", 1, {}, saved)
    loaded = load_npz(file, "k", 1)[1]
    assert all(np.array_equal(loaded[name], saved[name]) for name in saved)


def test_every_cut_is_found(path: Path) -> None:
    whole = path.read_bytes()
    cut = path.with_name("cut.npz")
    for length in range(0, len(whole), 3):
        cut.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.npz: "):
            load_npz(cut, "sgd.run", 2)


def test_every_flipped_bit_is_found(path: Path) -> None:
    whole = path.read_bytes()
    bad = path.with_name("bad.npz")
    for index in range(len(whole)):
        changed = bytearray(whole)
        changed[index] ^= 1 << (index % 8)
        bad.write_bytes(changed)
        with pytest.raises(ValueError, match=r"bad\.npz: "):
            load_npz(bad, "sgd.run", 2)


def test_inserted_and_appended_bytes_are_found(path: Path) -> None:
    whole = path.read_bytes()
    bad = path.with_name("bad.npz")
    for changed in (whole + b"\0", b"\0" + whole, whole[:100] + b"x" + whole[100:], whole + whole):
        bad.write_bytes(changed)
        with pytest.raises(ValueError, match=r"bad\.npz: "):
            load_npz(bad, "sgd.run", 2)


@settings(max_examples=100, deadline=None)
@given(
    start=st.integers(0, 1200),
    length=st.integers(0, 64),
    replacement=st.binary(max_size=64),
)
def test_every_edit_is_found(start: int, length: int, replacement: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "run.npz"
        save_npz(file, "sgd.run", 2, HEADER, arrays())
        whole = file.read_bytes()
        changed = whole[:start] + replacement + whole[start + length :]
        assume(changed != whole)
        file.write_bytes(changed)
        with pytest.raises(ValueError, match=r"run\.npz: "):
            load_npz(file, "sgd.run", 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is cut or damaged (0 bytes are left)"),
        (b"PK\3\4 and so on", "the file is cut or damaged (14 bytes are left)"),
        (b"theta,mean\n1,2\n", "not a hotloops checkpoint"),
        (pickle.dumps({"mean": [1.0]}), "not a hotloops checkpoint"),
    ],
    ids=["empty", "start", "csv", "pickle"],
)
def test_other_files(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "other"
    file.write_bytes(content)
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        load_npz(file, "sgd.run", 1)
    assert str(raised.value) == f"{file}: {message}"


def test_foreign_npz(tmp_path: Path) -> None:
    file = tmp_path / "foreign.npz"
    np.savez(file, mean=np.ones(3))
    with pytest.raises(ValueError, match=r"foreign.npz: not a hotloops .* \(a zip file of other"):
        load_npz(file, "sgd.run", 1)


def test_wrong_kind(path: Path) -> None:
    message = r"run.npz: the checkpoint holds 'sgd.run', expected 'simplex.run'$"
    with pytest.raises(ValueError, match=message):
        load_npz(path, "simplex.run", 9)


def test_newer_version(path: Path) -> None:
    message = r"run.npz: the checkpoint has version 2 of 'sgd.run', newer than .* up to 1 that"
    with pytest.raises(ValueError, match=message):
        load_npz(path, "sgd.run", 1)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_npz(tmp_path / "nowhere.npz", "sgd.run", 1)


def sealed(file: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a file with a right checksum, as somebody would who means harm."""
    with open(file, "w+b") as stream:
        with zipfile.ZipFile(stream, "w", compression) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
            archive.comment = checkpoints._SEAL + b"0" * 8
        checkpoints._seal(stream)
    return file


def document(**changes: object) -> bytes:
    whole = {"format": "hotloops", "kind": "k", "version": 1, "header": {}, **changes}
    return json.dumps(whole).encode()


def npy(array: np.ndarray[Any, Any], *, allow_pickle: bool = False) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=allow_pickle)
    return stream.getvalue()


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: str) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (self.victim, "w"))


def test_pickles_are_never_opened(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    bomb = npy(np.array([Bomb(str(victim))], dtype=object), allow_pickle=True)
    file = sealed(tmp_path / "k.npz", {"header.json": document(), "x.npy": bomb})
    with pytest.raises(ValueError, match=r"k.npz: .*Object arrays cannot be loaded"):
        load_npz(file, "k", 1)
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, x=np.array([Bomb(str(victim))], dtype=object))
    with pytest.raises(ValueError, match=r"pickled.npz: not a hotloops checkpoint"):
        load_npz(pickled, "k", 1)
    assert not victim.exists()


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"x.npy": npy(np.ones(1))}, "cannot be read as a checkpoint"),
        ({"header.json": b"{"}, "cannot be read as a checkpoint"),
        ({"header.json": b"\xff\xfe\xfd"}, "cannot be read as a checkpoint"),
        ({"header.json": b"[]"}, "not a hotloops checkpoint"),
        ({"header.json": document(format="other")}, "not a hotloops checkpoint"),
        ({"header.json": document(header=[])}, "its header is incomplete"),
        ({"header.json": document(version="1")}, "its header is incomplete"),
        ({"header.json": document(version=True)}, "its header is incomplete"),
        ({"header.json": document(kind=None)}, "the checkpoint holds None, expected 'k'"),
        ({"header.json": document(), "x.npy": b""}, "cannot be read as a checkpoint"),
        ({"header.json": document(), "x.npy": b"nonsense" * 9}, "cannot be read as a checkpoint"),
        (
            {"header.json": document(), "x.npy": npy(np.ones(99))[:-8]},
            "cannot be read as a checkpoint",
        ),
    ],
    ids=lambda value: None if isinstance(value, dict) else "",
)
def test_well_sealed_nonsense(tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    file = sealed(tmp_path / "k.npz", members)
    with pytest.raises(ValueError, match=f"k.npz: .*{message}"):
        load_npz(file, "k", 1)


def test_broken_zip_inside_a_good_seal(tmp_path: Path) -> None:
    file = tmp_path / "k.npz"
    with open(file, "w+b") as stream:
        stream.write(b"PK\3\4" + b"x" * 100 + checkpoints._SEAL + b"0" * 8)
        checkpoints._seal(stream)
    with pytest.raises(ValueError, match=r"k.npz: the file cannot be read as a checkpoint"):
        load_npz(file, "k", 1)


def test_objects_are_refused(path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(TypeError, match="array 'x' holds Python objects"):
        save_npz(path, "k", 1, {}, {"x": np.array([None])})
    with pytest.raises(TypeError, match="not JSON serializable"):
        save_npz(path, "k", 1, {"x": object()}, {})
    with pytest.raises(ValueError, match="not JSON compliant"):
        save_npz(path, "k", 1, {"x": float("nan")}, {})
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_save_replaces(path: Path) -> None:
    save_npz(path, "other", 1, {"n": 1}, {})
    assert load_npz(path, "other", 1) == ({"n": 1}, {})


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), MemoryError()])
@pytest.mark.parametrize("moment", ["write_array", "fsync", "replace"])
def test_old_file_survives_a_failing_save(
    path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, moment: str
) -> None:
    before = path.read_bytes()
    calls = []

    def fail(*args: object, **kwargs: object) -> None:
        calls.append(args)
        raise error

    owner = np.lib.format if moment == "write_array" else os
    monkeypatch.setattr(owner, moment, fail)
    with pytest.raises(type(error)):
        save_npz(path, "sgd.run", 3, {}, {"x": np.ones(1000)})
    monkeypatch.undo()
    assert len(calls) == 1
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_old_file_survives_a_full_disk(path: Path) -> None:
    """The limit on file size stands in for a full disk: the write itself fails half-way."""
    before = path.read_bytes()
    old_limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    old_handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, old_limit[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_npz(path, "sgd.run", 3, {}, {"x": np.ones(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old_limit)
        signal.signal(signal.SIGXFSZ, old_handler)
    assert path.read_bytes() == before
    assert leftovers(path.parent) == []


def test_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/run\.npz"):
        save_npz(tmp_path / "nowhere" / "run.npz", "k", 1, {}, {})
    assert os.listdir(tmp_path) == []


def test_unwritable_folder(path: Path) -> None:
    folder = path.parent
    folder.chmod(0o500)
    try:
        if os.access(folder, os.W_OK):
            pytest.skip("this user may write to every folder")
        with pytest.raises(PermissionError, match=r"run\.npz"):
            save_npz(path, "k", 1, {}, {})
    finally:
        folder.chmod(0o700)
    assert load_npz(path, "sgd.run", 2)[0] == HEADER


def test_refused_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for users that no folder refuses, with the refusal put in by hand."""

    def refuse(name: str, *args: object) -> int:
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as raised:
        save_npz(path, "k", 1, {}, {})
    monkeypatch.undo()
    assert raised.value.filename == str(path)
    assert load_npz(path, "sgd.run", 2)[0] == HEADER


def test_target_is_a_folder(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=str(tmp_path.name)):
        save_npz(tmp_path, "k", 1, {}, {})
    assert os.listdir(tmp_path) == []
    with pytest.raises(IsADirectoryError):
        load_npz(tmp_path, "k", 1)


def test_links_stay_links(path: Path) -> None:
    link = path.with_name("latest.npz")
    link.symlink_to(path.name)
    save_npz(link, "k", 1, {"n": 2}, {})
    assert link.is_symlink()
    assert load_npz(path, "k", 1)[0] == {"n": 2}


def test_umask_holds(tmp_path: Path) -> None:
    file = tmp_path / "run.npz"
    old = os.umask(0o027)
    try:
        save_npz(file, "k", 1, {}, {})
    finally:
        os.umask(old)
    assert stat.S_IMODE(file.stat().st_mode) == 0o640
