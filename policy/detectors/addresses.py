"""Addresses: e-mail, IPv4 and IPv6.

Each `find_*` yields the spans of one kind in data[begin:end]. A network address keeps its port, its zone and its
prefix length behind it. Called by `policy.detectors.kinds`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from policy.detectors.engine import Pattern, Span

_WORD = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ALNUM = frozenset(_WORD)
_BEYOND_ASCII = bytes(range(0x80, 0x100))

# --- e-mail -------------------------------------------------------------------------------------------------

EMAIL = (
    rb"[A-Za-z0-9_+%'!#$*^~\x80-\xff-]@"
    rb"[A-Za-z0-9\x80-\xff](?:[A-Za-z0-9\x80-\xff.-]*[A-Za-z0-9\x80-\xff])?\.[A-Za-z\x80-\xff][A-Za-z0-9\x80-\xff-]+"
)
_EMAIL = Pattern(EMAIL)
_ASCII_EMAIL = Pattern(
    rb"[A-Za-z0-9_+%'!#$*^~-]@[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?\.[A-Za-z][A-Za-z0-9-]+"
)
_LOCAL_ASCII = _WORD + b"_.+%'!#$*^~-"
_LOCAL = _LOCAL_ASCII + _BEYOND_ASCII
_MAX_LOCAL = 64
_ESCAPED = frozenset(b"nrtbf")
# Endings of names that are no domains: files with "@2x" in them and units of systemd.
_NO_DOMAINS = frozenset(
    b"png jpg jpeg gif svg webp avif ico css js json html service timer socket target slice scope mount path".split()
)


def find_emails(data: bytes, begin: int, end: int) -> Iterator[Span]:
    for at, stop in _EMAIL.find_all(data, begin, end):
        span = _mailbox(data, begin, at, stop)
        if not _is_utf8(data[span[0] : span[1]]):  # bytes that are no text stand beside it
            ascii_stop = _ASCII_EMAIL.find_at(data, at, stop)
            if ascii_stop < 0:
                continue
            span = _ascii_part(data, span[0], at), ascii_stop
        ending = data[at : span[1]].rpartition(b".")[2]
        if span[0] <= at and ending.lower() not in _NO_DOMAINS and b".." not in data[at : span[1]]:
            yield span


def _mailbox(data: bytes, begin: int, at: int, stop: int) -> Span:
    """All of it, from the last byte before the at sign and the end of the domain."""
    first = max(begin, at + 1 - _MAX_LOCAL)
    before = data[first : at + 1]
    start = at + 1 - (len(before) - len(before.rstrip(_LOCAL)))
    start = _without_escape(data, start, at)
    while (
        start <= at and data[start] in b".'!#$*^~%-"
    ):  # a quote or a mark of the text around, not of the name
        start += 1
    while start > 0 and data[start] & 0xC0 == 0x80:  # not in the middle of a character
        start -= 1
    return start, stop


def _ascii_part(data: bytes, start: int, at: int) -> int:
    """Where the last run of ASCII between start and `at` begins."""
    return start + len(data[start : at + 1].rstrip(_LOCAL_ASCII))


def _is_utf8(text: bytes) -> bool:
    if text.isascii():
        return True
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _without_escape(data: bytes, start: int, at: int) -> int:
    """Behind a backslash the first letter belongs to the escape (`\\n`), and what is left must stay readable."""
    if start > 0 and data[start - 1] == 0x5C and data[start] in _ESCAPED and start < at:
        return start + 1
    return start


# --- IP -----------------------------------------------------------------------------------------------------

_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
IPV4 = rb"(?:\b|_)" + _OCTET + rb"(?:\." + _OCTET + rb"){3}\b"
IPV6 = rb"::[0-9A-Fa-f]|[0-9A-Fa-f]::|(?:[0-9A-Fa-f]{1,4}:){6}[0-9A-Fa-f]"
_IPV4 = Pattern(IPV4)
_IPV6 = Pattern(IPV6)
_IPV6_BYTES = b"0123456789ABCDEFabcdef:."
_MAX_IPV6 = 46
_UNDERSCORE = 0x5F
_DOT = 0x2E
_COLON = 0x3A


def find_ipv4s(data: bytes, begin: int, end: int) -> Iterator[Span]:
    for found, stop in _IPV4.find_all(data, begin, end):
        start = found + (data[found] == _UNDERSCORE)
        if not _is_dotted(data, start, stop):
            yield start, stop


def find_ipv6s(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = begin
    while (seen := _IPV6.find(data, position, end)) is not None:
        start, stop = _colon_run(data, begin, seen[0], end)
        position = max(stop, seen[1])
        is_listed = data[start - 1 : start] == b":" and data[start:stop].endswith(b"::")  # as in passwd(5)
        if not is_listed and not _touches_word(data, start, stop) and _is_ipv6(data[start:stop]):
            yield start, stop


def _colon_run(data: bytes, begin: int, inside: int, end: int) -> Span:
    """The digits, colons and dots around `inside`, without the punctuation of the text that they stand in."""
    before = data[max(begin, inside - _MAX_IPV6) : inside]
    behind = data[inside : min(end, inside + _MAX_IPV6)]
    start = inside - (len(before) - len(before.rstrip(_IPV6_BYTES)))
    stop = inside + len(behind) - len(behind.lstrip(_IPV6_BYTES))
    while stop > start and data[stop - 1] in (_DOT, _COLON) and data[stop - 2 : stop] != b"::":
        stop -= 1
    while start < stop and data[start] in (_DOT, _COLON) and data[start : start + 2] != b"::":
        start += 1
    return start, stop


def _is_dotted(data: bytes, start: int, stop: int) -> bool:
    """A part of a longer dotted number?"""
    if start > 1 and data[start - 1] == _DOT and data[start - 2] in _ALNUM:
        return True
    return stop + 1 < len(data) and data[stop] == _DOT and data[stop + 1] in b"0123456789"


def _touches_word(data: bytes, start: int, stop: int) -> bool:
    before = data[start - 1] if start else 0
    after = data[stop] if stop < len(data) else 0
    return before in _ALNUM or after in _ALNUM


def _is_ipv6(text: bytes) -> bool:
    """An address, and not eight pairs of an EUI-64 or two names with `::` between them."""
    if text.count(b":") < 2 or not any(byte in b"0123456789" for byte in text):
        return False
    groups = text.split(b":")
    if b"::" not in text and all(len(group) == 2 for group in groups):
        return False
    try:
        ipaddress.IPv6Address(text.decode("ascii"))
    except ValueError:
        return False
    return True
