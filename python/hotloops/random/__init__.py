"""Counter-based random numbers: the stream that every method of hotloops draws from.

Philox4x32-10 with the key ``(seed low, seed high)`` and the counter ``(step low, step bits 32 to 47
| stream << 16, chain, block)``. Block b holds the four words of coordinates 4b to 4b + 3. A number
therefore depends on its own indices alone, never on how many were drawn before it, on threads,
instruction set or backend.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3",
SC 2011.
"""

from hotloops.random._bulk import normals, philox, uniforms

__all__ = ["normals", "philox", "uniforms"]
