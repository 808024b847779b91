"""Optimizers for PyTorch over the kernels of hotloops; importing this needs PyTorch."""

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise ImportError(
        f"hotloops.torch needs PyTorch (pip install 'hotloops[torch]'), which cannot be imported: "
        f"{error}"
    ) from error

from hotloops.torch._nsisa import NSISA
from hotloops.torch._sisa import SISA

__all__ = ["NSISA", "SISA"]
