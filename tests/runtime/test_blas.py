"""The addresses of SciPy's products, and BLAS held at one thread."""

from __future__ import annotations

import threading

import threadpoolctl

from hotloops._runtime import blas


def blas_threads() -> list[int]:
    found = threadpoolctl.ThreadpoolController().select(user_api="blas").lib_controllers
    return [
        library.get_num_threads() for library in found if "numpy.libs" not in str(library.filepath)
    ]


def test_addresses() -> None:
    addresses = blas._addresses()
    assert len(addresses) == 2
    assert all(isinstance(address, int) for address in addresses)
    assert blas.core_with_blas() is blas.core_with_blas()


def test_blas_runs_on_one_thread_inside_and_on_as_many_as_before_after() -> None:
    blas.core_with_blas()
    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        with blas.single_threaded:
            assert set(blas_threads()) <= {1}
            with blas.single_threaded:
                assert set(blas_threads()) <= {1}
            assert set(blas_threads()) <= {1}
        assert blas_threads() == before


def test_blas_is_held_until_the_last_thread_is_out() -> None:
    blas.core_with_blas()
    entered, leave = threading.Event(), threading.Event()

    def stay() -> None:
        with blas.single_threaded:
            entered.set()
            leave.wait(10)

    with threadpoolctl.threadpool_limits(3, user_api="blas"):
        before = blas_threads()
        other = threading.Thread(target=stay)
        other.start()
        assert entered.wait(10)
        with blas.single_threaded:
            pass
        assert set(blas_threads()) <= {1}
        leave.set()
        other.join()
        assert blas_threads() == before


def test_the_limit_is_lifted_after_an_error() -> None:
    blas.core_with_blas()
    before = blas_threads()
    try:
        with blas.single_threaded:
            raise RuntimeError
    except RuntimeError:
        pass
    assert blas_threads() == before
