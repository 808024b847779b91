"""The twin of ``csrc/core/{philox,math,normal}.hpp``: the same operations in the same order.

Traced functions of packs (see `_numba_packs`), each of which is also plain NumPy. Nothing here may
be reordered or fused: the results must be the bits that the C++ and CUDA functions return.
"""

from __future__ import annotations

from typing import Any

from hotloops._runtime._numba_packs import (
    as_real,
    as_words,
    count_from,
    interleave_words,
    is_single,
    signed_to_real,
    square_root,
    traced,
    uint64,
    where,
)

_hex = float.fromhex

STREAM_NOISE, STREAM_FEATURES, STREAM_LABELS = 0, 1, 2
STREAM_TRANSITIONS, STREAM_ROW_SAMPLING, STREAM_EXCHANGE = 3, 5, 6
STREAM_INITIAL_POINTS, STREAM_PERMUTATION, STREAM_SIZE_FACTORS, STREAM_COUNTS = 4, 7, 9, 10
STREAM_MATCHING_NOISE, STREAM_MATCHING_CHOICES, STREAM_PATH_NOISE = 11, 12, 13
STREAM_WEIGHTS, STREAM_DROPOUT = 14, 15

_LOW = 0xFFFFFFFF
_MULTIPLIER_0, _MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
_BUMP_0, _BUMP_1 = 0x9E3779B9, 0xBB67AE85
_NUM_ROUNDS = 10


# --- Philox4x32-10: words in 64-bit lanes, of which only the low half counts ---------------------


def _multiply_wide(a: Any, b: int) -> Any:
    return (a & _LOW) * b


def _rounds(c: tuple[Any, ...], low: Any, high: Any, first: int) -> tuple[Any, ...]:
    """Apply the rounds from `first` on to a counter, of scalars or packs."""
    c0, c1, c2, c3 = c
    for r in range(first, _NUM_ROUNDS):
        p0 = _multiply_wide(c0, _MULTIPLIER_0)
        p1 = _multiply_wide(c2, _MULTIPLIER_1)
        c0 = (p1 >> 32) ^ c1 ^ ((low + r * _BUMP_0) & _LOW)
        c2 = (p0 >> 32) ^ c3 ^ ((high + r * _BUMP_1) & _LOW)
        c1, c3 = p1, p0
    return c0, c1, c2, c3


@traced
def philox4x32(c0: Any, c1: Any, c2: Any, c3: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return the four words of a counter of any kind."""
    return _rounds((c0, c1, c2, c3), low, high, 0)


@traced
def counter_word_1(step: Any, stream: Any) -> Any:
    """Return the high part of a step together with its stream."""
    return (uint64(step) >> 32) | (uint64(stream) << 16)


def _philox_row(row: Any, step: Any, stream: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return what the first two rounds need of rows while step >> 32 stays the same."""
    p1 = _multiply_wide(row, _MULTIPLIER_1)
    c0 = (p1 >> 32) ^ (counter_word_1(step, stream) ^ low)
    p0 = _multiply_wide(c0, _MULTIPLIER_0)
    return p1, p0 >> 32, p0


def _philox_block(row: Any, step: Any, block: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return the four words at (step, block) of prepared rows."""
    low_1, high_2, low_2 = row
    p0 = _multiply_wide(uint64(step), _MULTIPLIER_0)
    c2 = (p0 >> 32) ^ uint64(block) ^ high
    p1 = _multiply_wide(c2, _MULTIPLIER_1)
    return _rounds(
        (
            low_1 ^ ((p1 >> 32) ^ ((low + _BUMP_0) & _LOW)),
            p1,
            high_2 ^ ((p0 & _LOW) ^ ((high + _BUMP_1) & _LOW)),
            low_2,
        ),
        low,
        high,
        2,
    )


@traced
def prepare_rows(like: Any, first_row: Any, step: Any, stream: Any, low: Any, high: Any) -> Any:
    """Prepare the rows of one pack of the precision of `like`: even and odd ones apart in float32,
    where a pack has twice as many lanes as its words."""
    first = uint64(first_row)
    if is_single(like):
        even = _philox_row(count_from(first, 2), step, stream, low, high)
        return even, _philox_row(count_from(first + 1, 2), step, stream, low, high)
    return (_philox_row(count_from(first, 1), step, stream, low, high),)


@traced
def draw_words(rows: Any, step: Any, block: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return four words for each row of a pack."""
    parts = [_philox_block(row, step, block, low, high) for row in rows]
    if len(parts) == 1:
        return parts[0]
    return tuple(interleave_words(even, odd) for even, odd in zip(*parts, strict=True))


# --- elementary functions ------------------------------------------------------------------------


@traced
def log_positive(x: Any) -> Any:
    """Return log(x) for positive normal x."""
    if is_single(x):
        shifted = as_words(x) + (0x3F800000 - 0x3F3504F3)
        k = signed_to_real((shifted >> 23) - 127)
        f = as_real((shifted & 0x007FFFFF) + 0x3F3504F3) - 1.0
        return _log1p_reduced_f32(f) + k * _hex("0x1.62e430p-1")
    shifted = as_words(x) + (0x3FF0000000000000 - 0x3FE6A09E667F3BCD)
    k = as_real((shifted >> 52) | 0x4330000000000000) - (2.0**52 + 1023.0)
    f = as_real((shifted & 0x000FFFFFFFFFFFFF) + 0x3FE6A09E667F3BCD) - 1.0
    s = f / (2.0 + f)
    z = s * s
    z2 = z * z
    q01 = _hex("0x1.5555555555592p-1") + z * _hex("0x1.999999997fdb6p-2")
    q23 = _hex("0x1.24924941f135ap-2") + z * _hex("0x1.c71c520951686p-3")
    q45 = _hex("0x1.74663eea8f93fp-3") + z * _hex("0x1.39a1ba85757a4p-3")
    q = (q01 + z2 * q23) + (z2 * z2) * (q45 + z2 * _hex("0x1.2f0565538e258p-3"))
    half_square = 0.5 * f * f
    tail = s * (half_square + z * q) + k * _hex("0x1.ef35793c76730p-45")
    return k * _hex("0x1.62e42fefa3800p-1") - ((half_square - tail) - f)


def _log1p_reduced_f32(f: Any) -> Any:
    f2 = f * f
    f4 = f2 * f2
    p01 = _hex("0x1.555554p-2") + f * _hex("-0x1.000228p-2")
    p23 = _hex("0x1.99a008p-3") + f * _hex("-0x1.547244p-3")
    p45 = _hex("0x1.22da22p-3") + f * _hex("-0x1.0d8552p-3")
    p67 = _hex("0x1.055b48p-3") + f * _hex("-0x1.38b4d2p-4")
    p = (p01 + f2 * p23) + f4 * (p45 + f2 * p67)
    return f + f2 * (f * p - 0.5)


@traced
def sincos_quarter(t: Any) -> tuple[Any, Any]:
    """Return sin and cos of a quarter turn times t, abs(t) <= 1/2."""
    w = t * t
    if is_single(t):
        s = _hex("0x1.466030p-4") + w * _hex("-0x1.2dd046p-8")
        c = _hex("-0x1.55ca32p-6") + w * _hex("0x1.dae684p-11")
        s = _hex("-0x1.4abbc0p-1") + w * s
        c = _hex("0x1.03c1e8p-2") + w * c
        sine = t * (_hex("0x1.921fb6p+0") + w * s)
        return sine, 1.0 + w * (_hex("-0x1.3bd3ccp+0") + w * c)
    w2 = w * w
    s01 = _hex("-0x1.4abbce625be47p-1") + w * _hex("0x1.466bc67758d85p-4")
    s23 = _hex("-0x1.32d2cce3332c0p-8") + w * _hex("0x1.5078301b609e5p-13")
    s45 = _hex("-0x1.e300a658b4acep-19") + w * _hex("0x1.e403d00aeb1d9p-25")
    c01 = _hex("0x1.03c1f081b5abcp-2") + w * _hex("-0x1.55d3c7e3ca707p-6")
    c23 = _hex("0x1.e1f506852a242p-11") + w * _hex("-0x1.a6d1edbcb4094p-16")
    c45 = _hex("0x1.f9cd217110b53p-22") + w * _hex("-0x1.b2a255f14e8e9p-28")
    s = s01 + w2 * (s23 + w2 * s45)
    c = c01 + w2 * (c23 + w2 * c45)
    sine = t * _hex("0x1.921fb54442d18p+0") + t * (_hex("0x1.1a62633145c07p-54") + w * s)
    beyond_one = w * _hex("0x1.3bd3cc9be45dep+0") - w * (w * c - _hex("0x1.692b71366cc04p-54"))
    return sine, 1.0 - beyond_one


def flip_sign(value: Any, sign: Any) -> Any:
    """Return `value`, its sign flipped where bit 31 of `sign` is set."""
    bit = sign & 0x80000000
    return as_real(as_words(value) ^ (bit if is_single(value) else bit << 32))


@traced
def magnitude(x: Any) -> Any:
    """Return abs(x)."""
    return as_real(as_words(x) & (0x7FFFFFFF if is_single(x) else 0x7FFFFFFFFFFFFFFF))


@traced
def polar_turns(r: Any, turn: Any) -> tuple[Any, Any]:
    """Return r cos and r sin of the angle that is `turn` 2^-32 of a full turn."""
    y = turn + 0x20000000  # top two bits: the quadrant
    if is_single(r):
        t = signed_to_real((y & 0x3FFFFFFF) - 0x20000000) * 2.0**-30
    else:
        t = (as_real((y & 0x3FFFFFFF) | 0x4330000000000000) - (2.0**52 + 2.0**29)) * 2.0**-30
    sine_part, cosine_part = sincos_quarter(t)
    odd_quadrant = (y & 0x40000000) != 0
    along = flip_sign(r * where(odd_quadrant, sine_part, cosine_part), y + 0x40000000)
    return along, flip_sign(r * where(odd_quadrant, cosine_part, sine_part), y)


def exp_reduced(x: Any) -> tuple[Any, Any]:
    """Return e and s, exp(x) = s (1 + e), for abs(x) <= 80 in float32, <= 700 in float64."""
    if is_single(x):
        # Adding 1.5 2^23 rounds to an integer and leaves it in the low bits.
        magic = x * _hex("0x1.715476p+0") + 1.5 * 2.0**23
        k = magic - 1.5 * 2.0**23
        r = (x - k * _hex("0x1.62ep-1")) - k * _hex("0x1.0bfbe8p-15")
        e = _hex("0x1.124148p-7") + r * _hex("0x1.6dbc64p-10")
        e = _hex("0x1.555454p-5") + r * e
        e = 0.5 + r * (_hex("0x1.555486p-3") + r * e)
        return r + (r * r) * e, as_real((as_words(magic) << 23) + 0x3F800000)
    magic = x * _hex("0x1.71547652b82fep+0") + 1.5 * 2.0**52
    k = magic - 1.5 * 2.0**52
    r = (x - k * _hex("0x1.62e42fefa0000p-1")) - k * _hex("0x1.cf79abc9e3b3ap-40")
    r2 = r * r
    r4 = r2 * r2
    e01 = _hex("0x1.000000000000dp-1") + r * _hex("0x1.5555555555561p-3")
    e23 = _hex("0x1.555555554f90ap-5") + r * _hex("0x1.111111110d52ep-7")
    e45 = _hex("0x1.6c16c1873cbc4p-10") + r * _hex("0x1.a01a01bb5b4a4p-13")
    e67 = _hex("0x1.a019923726903p-16") + r * _hex("0x1.71ddde8adfb28p-19")
    e89 = _hex("0x1.28b460d087ae8p-22") + r * _hex("0x1.af87c2987e52ep-26")
    e = (e01 + r2 * e23) + r4 * ((e45 + r2 * e67) + r4 * e89)
    return r + r2 * e, as_real((as_words(magic) << 52) + 0x3FF0000000000000)


@traced
def exp_bounded(x: Any) -> Any:
    """Return exp(x) for abs(x) <= 80 in float32, <= 700 in float64."""
    e, scale = exp_reduced(x)
    return (1.0 + e) * scale


@traced
def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + exp(-x)); x is clamped to where nothing changes any more."""
    limit = 40.0 if is_single(x) else 700.0
    x = where(x > limit, limit, x)
    x = where(x < -limit, -limit, x)
    return 1.0 / (1.0 + exp_bounded(-x))


def quarter_turns(x: Any) -> tuple[Any, Any]:
    """Return x in quarter turns less the nearest whole number, whose last bits come second."""
    if is_single(x):
        magic = x * _hex("0x1.45f306p-1") + 1.5 * 2.0**23
        k = magic - 1.5 * 2.0**23
        r = ((x - k * _hex("0x1.92p+0")) - k * _hex("0x1.fbp-12")) - k * _hex("0x1.5110b4p-22")
        return r * _hex("0x1.45f306p-1"), as_words(magic)
    magic = x * _hex("0x1.45f306dc9c883p-1") + 1.5 * 2.0**52
    k = magic - 1.5 * 2.0**52
    r = (x - k * _hex("0x1.921fb54400000p+0")) - k * _hex("0x1.0b4611a600000p-34")
    t = (r - k * _hex("0x1.3198a2e037073p-69")) * _hex("0x1.45f306dc9c883p-1")
    return t, as_words(magic)


@traced
def sine(x: Any) -> Any:
    """Return sin(x), with an absolute error of about 1 ulp of 1."""
    t, quadrant = quarter_turns(x)
    sine_part, cosine_part = sincos_quarter(t)
    odd_quadrant = (quadrant & 1) != 0
    return flip_sign(where(odd_quadrant, cosine_part, sine_part), quadrant << 30)


# --- uniforms and normals ------------------------------------------------------------------------


@traced
def uniform(x: Any) -> Any:
    """Return uniforms on (0, 1), never 0 or 1, from words."""
    if is_single(x):
        return as_real((x >> 9) | 0x3F800000) - _hex("0x1.fffffep-1")
    shifted = as_real((x & 0xFFFFFFFF) | 0x4330000000000000)
    return (shifted - _hex("0x1.fffffffffffffp+51")) * 2.0**-32


@traced
def box_muller(x0: Any, x1: Any) -> tuple[Any, Any]:
    """Return two standard normals from two words."""
    return polar_turns(square_root(-2.0 * log_positive(uniform(x0))), x1)


@traced
def draw_normals(rows: Any, step: Any, block: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return the normals of coordinates 4 block .. 4 block + 3 for each row of a pack."""
    x0, x1, x2, x3 = draw_words(rows, step, block, low, high)
    return box_muller(x0, x1) + box_muller(x2, x3)


@traced
def draw_uniforms(rows: Any, step: Any, block: Any, low: Any, high: Any) -> tuple[Any, ...]:
    """Return four uniforms for each row of a pack."""
    return tuple(uniform(word) for word in draw_words(rows, step, block, low, high))
