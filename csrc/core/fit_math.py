"""Fit the polynomial coefficients of ``math.hpp``.

Needs mpmath; run by hand, the printed values are pasted there. Near-minimax fits by Lawson's
iteration: weighted least squares on Chebyshev nodes in 60-digit arithmetic, the weights multiplied
by the error each time, until the error is level.
"""

import struct

import mpmath as mp

mp.mp.dps = 60


def lawson(function, weight, degree, low, high, iterations=60, nodes=160):
    """Coefficients c of p(x) = sum c_i x^i that level ``weight(x) * (function(x) - p(x))``."""
    points = [
        (low + high) / 2 + (high - low) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * nodes))
        for i in range(nodes)
    ]
    values = [function(x) for x in points]
    scales = [weight(x) for x in points]
    lawson_weights = [mp.mpf(1) / nodes] * nodes
    coefficients = None
    for _ in range(iterations):
        gram = mp.zeros(degree + 1)
        right = mp.zeros(degree + 1, 1)
        for x, y, s, w in zip(points, values, scales, lawson_weights, strict=True):
            powers = [x**i for i in range(degree + 1)]
            factor = w * s * s
            for i in range(degree + 1):
                right[i] += factor * powers[i] * y
                for j in range(degree + 1):
                    gram[i, j] += factor * powers[i] * powers[j]
        coefficients = mp.lu_solve(gram, right)
        errors = [
            abs(s * (y - mp.polyval(list(coefficients)[::-1], x)))
            for x, y, s in zip(points, values, scales, strict=True)
        ]
        total = sum(w * e for w, e in zip(lawson_weights, errors, strict=True))
        lawson_weights = [w * e / total for w, e in zip(lawson_weights, errors, strict=True)]
    return list(coefficients), max(errors)


def show(name, fit, single):
    """Print one fit: its error in bits and the coefficients rounded to the target format."""
    coefficients, error = fit
    print(f"{name}: relative error 2^{mp.nstr(mp.log(error, 2), 4)}")
    for c in coefficients:
        rounded = struct.unpack("f", struct.pack("f", float(c)))[0] if single else float(c)
        print(f"    {rounded!r} = {rounded.hex()}")


def main():
    """Fit every function of math.hpp in both formats."""
    low, high = mp.sqrt(2) / 2 - 1, mp.sqrt(2) - 1

    def log_tail(f):
        if abs(f) < mp.mpf(10) ** -12:
            return mp.mpf(1) / 3 - f / 4
        return (mp.log1p(f) - f + f * f / 2) / f**3

    for degree in (6, 7):
        show(
            f"f32 log: (log1p(f) - f + f^2/2)/f^3, degree {degree}",
            lawson(log_tail, lambda f: abs(f**3 / mp.log1p(f)), degree, low, high),
            True,
        )

    def atanh_tail(z):
        s = mp.sqrt(z)
        return (mp.log((1 + s) / (1 - s)) - 2 * s) / s

    # R(z) = z * Q(z); weight makes the error relative to log.
    top = (high / (2 + high)) ** 2
    show(
        "f64 log: R(z)/z, z = s^2",
        lawson(lambda z: atanh_tail(z) / z, lambda z: z, 6, mp.mpf(10) ** -9, top),
        False,
    )

    half = mp.mpf(1) / 2
    for single, sin_degree, cos_degree in ((True, 2, 2), (True, 3, 3), (False, 6, 6)):
        # sin(pi/2 t) = t (pi/2 + w S(w)),  cos(pi/2 t) = 1 + w (-pi^2/8 + w C(w)),  w = t^2 <= 1/4.
        show(
            f"sin quarter-turns {'f32' if single else 'f64'} deg {sin_degree - 1}",
            lawson(
                lambda w: (mp.sin(mp.pi / 2 * mp.sqrt(w)) / mp.sqrt(w) - mp.pi / 2) / w,
                lambda w: w,
                sin_degree - 1,
                mp.mpf(10) ** -9,
                half**2,
            ),
            single,
        )
        show(
            f"cos quarter-turns {'f32' if single else 'f64'} deg {cos_degree - 1}",
            lawson(
                lambda w: (mp.cos(mp.pi / 2 * mp.sqrt(w)) - 1 + mp.pi**2 / 8 * w) / w**2,
                lambda w: w**2,
                cos_degree - 1,
                mp.mpf(10) ** -9,
                half**2,
            ),
            single,
        )

    bound = mp.log(2) / 2 * mp.mpf("1.01")
    for single, degree in ((True, 4), (False, 9), (False, 10)):
        # exp(r) = 1 + r + r^2 E(r)
        show(
            f"exp tail {'f32' if single else 'f64'} degree {degree}",
            lawson(
                lambda r: (
                    mp.mpf(1) / 2 + r / 6
                    if abs(r) < mp.mpf(10) ** -12
                    else (mp.exp(r) - 1 - r) / r**2
                ),
                lambda r: r**2,
                degree,
                -bound,
                bound,
            ),
            single,
        )


if __name__ == "__main__":
    main()
