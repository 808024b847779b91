"""Without PyTorch the rest of hotloops works, and hotloops.torch says what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from conftest import RunPython


def test_missing_torch(run_python: RunPython) -> None:
    code = """
        import hotloops
        from hotloops import admm, prox
        print(prox.L1()([3.0]))
        try:
            hotloops.torch
        except ImportError as error:
            print(error)
    """
    shown = run_python(code, blocked=["torch"])
    assert shown.startswith("[2.]\nhotloops.torch needs PyTorch (pip install 'hotloops[torch]')")


def test_torch_is_not_imported_by_the_kernels(run_python: RunPython) -> None:
    code = "import sys; from hotloops import admm, prox; print('torch' in sys.modules)"
    assert run_python(code) == "False\n"
