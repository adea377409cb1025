"""date, time, timetz, timestamp and timestamptz between their binary and text forms.

Text is the server's with DateStyle ISO; a timestamptz is written in UTC, because the binary form has no zone.
Counts from 2000-01-01: days for a date, microseconds for the others. Called by `values`, which translates
ValueError, OverflowError and struct.error.

Source: PostgreSQL `date_send`, `timestamp_send`, `timetz_send` and documentation, "Date/Time Output". The
calendar is the proleptic Gregorian one; it repeats every 400 years, which is how years that `datetime` does
not know are reached.
"""

from __future__ import annotations

import re
import struct
from datetime import date, timedelta

_EPOCH = date(2000, 1, 1)
_CYCLE_YEARS = 400
_CYCLE_DAYS = 146_097
_SECOND = 1_000_000
_DAY = 86_400 * _SECOND
_ZONE_LIMIT_S = 16 * 3600
_MAX_DAYS, _MIN_DAYS = 2**31 - 1, -(2**31)
_MAX_MICROSECONDS, _MIN_MICROSECONDS = 2**63 - 1, -(2**63)

_date = re.compile(r"([0-9]{4,7})-([0-9]{2})-([0-9]{2})( BC)?", re.ASCII)
_TIME = r"([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?"
_ZONE = r"(Z|[+-][0-9]{2}(?::?[0-9]{2}(?::[0-9]{2})?)?)"
_time = re.compile(_TIME, re.ASCII)
_timetz = re.compile(_TIME + _ZONE, re.ASCII)
_timestamp = re.compile(r"([0-9]+-[0-9]+-[0-9]+)(?:[ T]" + _TIME + _ZONE + r"?)?( BC)?", re.ASCII)


def date_text(data: bytes) -> str:
    (days,) = struct.unpack(">i", data)
    if days in (_MAX_DAYS, _MIN_DAYS):
        return "infinity" if days > 0 else "-infinity"
    day, suffix = _day_text(days)
    return day + suffix


def date_binary(text: str) -> bytes:
    text = text.strip()
    if text in ("infinity", "-infinity"):
        return struct.pack(">i", _MIN_DAYS if text[0] == "-" else _MAX_DAYS)
    return struct.pack(">i", _days(text))


def time_text(data: bytes) -> str:
    (microseconds,) = struct.unpack(">q", data)
    return _clock_text(microseconds)


def time_binary(text: str) -> bytes:
    match = _matched(_time, text)
    return struct.pack(">q", _clock(match.groups()[:4]))


def timetz_text(data: bytes) -> str:
    microseconds, west_s = struct.unpack(">qi", data)
    return _clock_text(microseconds) + _zone_text(-west_s)


def timetz_binary(text: str) -> bytes:
    match = _matched(_timetz, text)
    return struct.pack(">qi", _clock(match.groups()[:4]), -_zone(match[5]))


def timestamp_text(data: bytes) -> str:
    return _instant_text(data, "")


def timestamptz_text(data: bytes) -> str:
    return _instant_text(data, "+00")


def timestamp_binary(text: str) -> bytes:
    """A zone in the text is ignored, as the server does."""
    return struct.pack(">q", _instant(text)[0])


def timestamptz_binary(text: str) -> bytes:
    """A text without a zone is taken as UTC."""
    microseconds, east_s = _instant(text)
    return struct.pack(">q", microseconds - east_s * _SECOND)


def _instant_text(data: bytes, zone: str) -> str:
    (microseconds,) = struct.unpack(">q", data)
    if microseconds in (_MAX_MICROSECONDS, _MIN_MICROSECONDS):
        return "infinity" if microseconds > 0 else "-infinity"
    days, clock = divmod(microseconds, _DAY)
    day, suffix = _day_text(days)
    return f"{day} {_clock_text(clock)}{zone}{suffix}"


def _instant(text: str) -> tuple[int, int]:
    """Microseconds as written, and the zone's seconds east of UTC."""
    text = text.strip()
    if text in ("infinity", "-infinity"):
        return (_MIN_MICROSECONDS if text[0] == "-" else _MAX_MICROSECONDS), 0
    match = _matched(_timestamp, text)
    day, hour, minute, second, fraction, zone, era = match.groups()
    days = _days(day + (era or ""))
    clock = _clock((hour, minute, second, fraction)) if hour else 0
    return days * _DAY + clock, _zone(zone) if zone else 0


def _matched(pattern: re.Pattern[str], text: str) -> re.Match[str]:
    match = pattern.fullmatch(text.strip())
    if match is None:
        raise ValueError("not a date or time")
    return match


def _day_text(days: int) -> tuple[str, str]:
    """Day and era of `days` since 2000-01-01; the year 0 is 1 BC."""
    cycles, day_of_cycle = divmod(days, _CYCLE_DAYS)
    day = _EPOCH + timedelta(day_of_cycle)
    year = day.year + cycles * _CYCLE_YEARS
    if year > 0:
        return f"{year:04d}-{day.month:02d}-{day.day:02d}", ""
    return f"{1 - year:04d}-{day.month:02d}-{day.day:02d}", " BC"


def _days(text: str) -> int:
    match = _matched(_date, text)
    year = 1 - int(match[1]) if match[4] else int(match[1])
    if match[1].strip("0") == "":
        raise ValueError("there is no year 0")
    cycles, year_of_cycle = divmod(year - _EPOCH.year, _CYCLE_YEARS)
    day = date(_EPOCH.year + year_of_cycle, int(match[2]), int(match[3]))
    return (day - _EPOCH).days + cycles * _CYCLE_DAYS


def _clock_text(microseconds: int) -> str:
    if not 0 <= microseconds <= _DAY:
        raise ValueError("no such time of day")
    seconds, fraction = divmod(microseconds, _SECOND)
    text = f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    return f"{text}.{fraction:06d}".rstrip("0") if fraction else text


def _clock(parts: tuple[str | None, ...]) -> int:
    hour, minute, second, fraction = parts
    seconds = int(hour or 0) * 3600 + int(minute or 0) * 60 + int(second or 0)
    microseconds = seconds * _SECOND + int((fraction or "").ljust(6, "0"))
    if int(minute or 0) > 59 or int(second or 0) > 59 or microseconds > _DAY:
        raise ValueError("no such time of day")
    return microseconds


def _zone_text(east_s: int) -> str:
    if abs(east_s) >= _ZONE_LIMIT_S:
        raise ValueError("no such zone")
    sign = "-" if east_s < 0 else "+"
    minutes, second = divmod(abs(east_s), 60)
    text = f"{sign}{minutes // 60:02d}"
    if minutes % 60 or second:
        text += f":{minutes % 60:02d}"
    return f"{text}:{second:02d}" if second else text


def _zone(text: str) -> int:
    """Seconds east of UTC."""
    if text == "Z":
        return 0
    digits = text[1:].replace(":", "").ljust(6, "0")
    seconds = int(digits[:2]) * 3600 + int(digits[2:4]) * 60 + int(digits[4:])
    if seconds >= _ZONE_LIMIT_S or int(digits[2:4]) > 59 or int(digits[4:]) > 59:
        raise ValueError("no such zone")
    return -seconds if text[0] == "-" else seconds
