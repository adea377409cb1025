"""numeric, float4 and float8 between their binary and text forms, digit for digit as the server writes them.

Works on digits, never on binary fractions: a numeric keeps its scale, "1.10" stays "1.10". Called by
`values`, which translates ValueError, IndexError, OverflowError and struct.error.

Source: PostgreSQL `numeric_send`/`numeric_recv` (base 10000, Int16 count, weight, sign, scale) and
`float8_send`.
"""

from __future__ import annotations

import math
import re
import struct
from decimal import Decimal
from fractions import Fraction

_SIGNS = {0x0000: "", 0x4000: "-"}
_SPECIALS = {0xC000: "NaN", 0xD000: "Infinity", 0xF000: "-Infinity"}
_SPECIAL_NAMES = {
    "nan": 0xC000,
    "infinity": 0xD000,
    "inf": 0xD000,
    "+infinity": 0xD000,
    "+inf": 0xD000,
    "-infinity": 0xF000,
    "-inf": 0xF000,
}
_MAX_SCALE = 16383
_MAX_WHOLE_DIGITS = 131072
_number = re.compile(r"([+-]?)([0-9]*)(?:\.([0-9]*))?(?:[eE]([+-]?[0-9]{1,6}))?", re.ASCII)


def numeric_text(data: bytes) -> str:
    count, weight, sign, scale = struct.unpack_from(">HhHH", data)
    if len(data) != 8 + 2 * count:
        raise ValueError("wrong length")
    if sign in _SPECIALS:
        return _SPECIALS[sign]
    if sign not in _SIGNS or scale > _MAX_SCALE:
        raise ValueError("no such sign or scale")
    groups = struct.unpack_from(f">{count}H", data, 8)
    if max(groups, default=0) > 9999:
        raise ValueError("no such digit")
    digits = "".join(f"{group:04d}" for group in groups)
    whole_digits = 4 * (weight + 1)
    if whole_digits > 0:
        whole = digits[:whole_digits].ljust(whole_digits, "0").lstrip("0")
        fraction = digits[whole_digits:]
    else:
        whole = ""
        fraction = "0" * -whole_digits + digits
    number = whole or "0"
    if scale:
        number = f"{number}.{fraction[:scale].ljust(scale, '0')}"
    return _SIGNS[sign] + number if number.strip("0.") else number  # there is no negative zero


def numeric_binary(text: str) -> bytes:
    text = text.strip()
    special = _SPECIAL_NAMES.get(text.lower())
    if special is not None:
        return struct.pack(">HhHH", 0, 0, special, 0)
    match = _number.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        raise ValueError("not a number")
    whole, fraction = _shifted(match[2], match[3] or "", int(match[4] or 0))
    whole = whole.lstrip("0")
    scale = len(fraction)
    if scale > _MAX_SCALE or len(whole) > _MAX_WHOLE_DIGITS:
        raise ValueError("number out of range")
    digits = whole.rjust(-(-len(whole) // 4) * 4, "0") + fraction.ljust(-(-scale // 4) * 4, "0")
    weight = -(-len(whole) // 4) - 1
    groups = [int(digits[at : at + 4]) for at in range(0, len(digits), 4)]
    while groups and not groups[0]:
        del groups[0]
        weight -= 1
    while groups and not groups[-1]:
        del groups[-1]
    sign = 0x4000 if match[1] == "-" and groups else 0
    count = len(groups)
    return struct.pack(f">HhHH{count}H", count, weight if groups else 0, sign, scale, *groups)


def _shifted(whole: str, fraction: str, exponent: int) -> tuple[str, str]:
    """The digits before and behind the point once the exponent is applied."""
    if abs(exponent) > _MAX_WHOLE_DIGITS + _MAX_SCALE:
        raise ValueError("number out of range")
    if exponent >= 0:
        return whole + fraction[:exponent].ljust(exponent, "0"), fraction[exponent:]
    moved = whole.rjust(-exponent, "0")
    return moved[:exponent], moved[exponent:] + fraction


def float8_text(data: bytes) -> str:
    (value,) = struct.unpack(">d", data)
    return _float_text(value, _shortest_float8(value), 15)


def float4_text(data: bytes) -> str:
    (value,) = struct.unpack(">f", data)
    return _float_text(value, _shortest_float4(value), 6)


def float8_binary(text: str) -> bytes:
    return struct.pack(">d", float(text))


def float4_binary(text: str) -> bytes:
    return struct.pack(">f", float(text))


def _shortest_float8(value: float) -> str:
    """`repr` gives the fewest digits too, but for integers may choose a text half way to a neighbour."""
    shortest = repr(value)
    if abs(value) < 2**53 or not math.isfinite(value) or _is_nearest(shortest, value, math.ulp(value)):
        return shortest
    texts = (f"{value:.{digits}e}" for digits in range(14, 17))
    fitting = (t for t in texts if float(t) == value and _is_nearest(t, value, math.ulp(value)))
    return next(fitting, f"{value:.16e}")


def _shortest_float4(value: float) -> str:
    """The fewest digits that read back as the same single-precision value."""
    if not math.isfinite(value):
        return repr(value)
    ulp = math.ldexp(1.0, max(math.frexp(value)[1] - 24, -149))
    for digits in range(8):
        text = f"{value:.{digits}e}"
        try:
            if struct.unpack(">f", struct.pack(">f", float(text)))[0] == value and _is_nearest(
                text, value, ulp
            ):
                return text
        except OverflowError:
            continue
    return f"{value:.8e}"


def _is_nearest(text: str, value: float, ulp: float) -> bool:
    """Is `text` nearer to `value` than to its neighbours? The server writes no text that is half way between
    two.
    """
    return abs(Fraction(text) - Fraction(value)) * 2 < Fraction(ulp)


def _float_text(value: float, shortest: str, fixed_below: int) -> str:
    """`shortest` in the server's notation: fixed for exponents from -4 to below `fixed_below`, else
    scientific.
    """
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    sign, digit_tuple, exponent = Decimal(shortest).as_tuple()
    digits = "".join(map(str, digit_tuple)).rstrip("0")
    point = len(digit_tuple) + int(exponent)
    prefix = "-" if sign else ""
    if not digits:
        return prefix + "0"
    if not -4 < point <= fixed_below:
        mantissa = digits[0] + ("." + digits[1:] if digits[1:] else "")
        return f"{prefix}{mantissa}e{point - 1:+03d}"
    if point <= 0:
        return f"{prefix}0.{'0' * -point}{digits}"
    whole, fraction = digits[:point].ljust(point, "0"), digits[point:]
    return f"{prefix}{whole}.{fraction}" if fraction else prefix + whole
