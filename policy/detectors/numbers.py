"""Numbers that are worth something: credit cards, US social security numbers, telephone numbers, IBANs.

Each `find_*` yields the spans of one kind in data[begin:end]; what stands before and behind is looked at. An
expression finds candidates, and what the number itself says (check digits, prefixes, lengths) decides. Called by
`policy.detectors.kinds`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from policy.detectors.engine import Pattern, Span
from policy.detectors.number_plans import CALLING_CODES, IBAN_LENGTHS, is_issued

_ALNUM = frozenset(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz")
_DIGITS = frozenset(b"0123456789")
_NO_DIGITS = bytes(byte for byte in range(256) if byte not in _DIGITS)
_UNDERSCORE = 0x5F
_DOT = 0x2E


def _is_alnum(data: bytes, at: int) -> bool:
    return 0 <= at < len(data) and data[at] in _ALNUM


def _is_digit(data: bytes, at: int) -> bool:
    return 0 <= at < len(data) and data[at] in _DIGITS


def _is_decimal(data: bytes, start: int, end: int) -> bool:
    """Part of a number with a decimal point, or of a dotted one?"""
    before = start > 0 and data[start - 1] == _DOT and _is_digit(data, start - 2)
    after = end < len(data) and data[end] == _DOT and _is_digit(data, end + 1)
    return before or after


# --- credit cards -------------------------------------------------------------------------------------------

# Digits without blanks have a length that fits what they begin with.
CARD = (
    rb"(?:\b|_)(?:"
    rb"(?:4[0-9]{12}(?:[0-9]{3}){0,2}|5[1-5][0-9]{14}|2[2-7][0-9]{14}|3[47][0-9]{13}|3[0689][0-9]{12}(?:[0-9]{2})?"
    rb"|35[0-9]{14}|6[0345][0-9]{14}|62[0-9]{14,17}|81[0-9]{14}|(?:50[1238]|589|630|67[56])[0-9]{9,16})(?:\b|_)"
    rb"|(?:4[0-9]|5[0-8]|2[2-7]|3[04-9]|6[0-9]|81)[0-9]{2}(?:"
    rb"(?:[ .-][0-9]{4}){2,3}(?:[ .-][0-9]{1,5})?|[ .-][0-9]{6}[ .-][0-9]{4,5}"
    rb"|[0-9]{4}[ .-][0-9]{8}|[0-9]{2}[ .-][0-9]{6,13}"
    rb"))"
)
_CARD = Pattern(CARD)
_NO_FRACTION = re.compile(rb"\.0{1,2}(?![0-9])")
_CARD_GROUPS = re.compile(rb"[ .-]")
# As cards are printed and written; what else has blanks in it is a row of numbers.
_CARD_FORMS = frozenset(
    {
        (4, 4, 4, 4),
        (4, 4, 4, 4, 3),
        (4, 6, 5),
        (4, 6, 4),
        (4, 4, 4),
        (4, 4, 5),
        (8, 8),
        (6, 6),
        (6, 10),
        (6, 13),
    }
)
_DOUBLED = bytes(
    (2 * (byte - 0x30) - 9 * (byte > 0x34)) % 256 if byte in _DIGITS else 0 for byte in range(256)
)
_PLAIN = bytes(byte - 0x30 if byte in _DIGITS else 0 for byte in range(256))


def passes_luhn(digits: bytes) -> bool:
    """ISO/IEC 7812-1, annex B."""
    return (sum(digits[-1::-2].translate(_PLAIN)) + sum(digits[-2::-2].translate(_DOUBLED))) % 10 == 0


def find_cards(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = begin
    while (found := _CARD.find(data, position, end)) is not None:
        start = found[0] + (data[found[0]] == _UNDERSCORE)
        stop = _card_end(data, start, found[1] - (data[found[1] - 1] == _UNDERSCORE))
        if stop:
            yield start, stop
        position = stop or start + 1


def _card_end(data: bytes, start: int, end: int) -> int:
    """Where the card number that begins at `start` ends, 0 for none: all of it, or without its last groups."""
    text = data[start:end]
    digits = text.translate(None, b" .-")
    if len(digits) == len(text):  # in one piece
        is_card = not _is_alnum(data, end) and _is_card(digits)
        return end if is_card and not _is_decimal(data, start, _behind_zeros(data, end)) else 0
    groups = _CARD_GROUPS.split(text)
    if _is_alnum(data, end):
        groups.pop()
    while groups:
        digits = b"".join(groups)
        if len(digits) < 12:
            return 0
        stop = start + len(digits) + len(groups) - 1
        is_form = len(groups) == 1 or tuple(map(len, groups)) in _CARD_FORMS
        if is_form and _is_card(digits) and not _is_decimal(data, start, _behind_zeros(data, stop)):
            return stop
        groups.pop()
    return 0


def _behind_zeros(data: bytes, stop: int) -> int:
    """A whole number that a program took for one with a fraction ends in `.0`."""
    found = _NO_FRACTION.match(data, stop)
    return stop if found is None else found.end()


def _is_card(digits: bytes) -> bool:
    return is_issued(digits) and passes_luhn(digits) and not (len(digits) == 13 and _is_article(digits))


def _is_article(digits: bytes) -> bool:
    """A number of an article (EAN-13, by its own check digit): those of Germany and Japan begin with a 4, as Visa does,
    which has long given out no cards of that length.
    """
    plain = digits.translate(_PLAIN)
    return (sum(plain[::2]) + 3 * sum(plain[1::2])) % 10 == 0


# --- US social security numbers -----------------------------------------------------------------------------

SSN = rb"(?:\b|_)[0-8][0-9]{2}(?:-[0-9]{2}-| [0-9]{2} |\.[0-9]{2}\.)[0-9]{4}"
SSN_NAMED = rb"(?i)(?:\bssn|_ssn|social[ _-]?security)[^0-9\n]{0,24}[0-9]{9}"
_SSN = Pattern(SSN)
_IN_ROW = rb"(?:[0-9]{1,6}|[0-9a-fA-F]{2}|[0-9a-f]{4}|[0-9a-f]{8})"
_NUMBER_BEFORE = re.compile(rb"(?<![0-9A-Za-z.-])" + _IN_ROW + rb" \Z")
_NUMBER_BEHIND = re.compile(rb" " + _IN_ROW + rb"(?![0-9A-Za-z.-])")
_LONGEST_IN_ROW = 10  # with the blank and what stands beyond
_SSN_NAMED = Pattern(SSN_NAMED)


def find_ssns(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = begin
    while (found := _SSN.find(data, position, end)) is not None:
        start = found[0] + (data[found[0]] == _UNDERSCORE)
        position = start + 1
        text = data[start : found[1]]
        if (
            _stands_alone(data, start, found[1])
            and _is_ssn(text)
            and not _is_decimal(data, start, found[1])
            and not (b" " in text and _is_in_row(data, start, found[1]))
        ):
            yield start, found[1]
            position = found[1]


def find_named_ssns(data: bytes, begin: int, end: int) -> Iterator[Span]:
    """Nine digits without dashes, behind a word that says what they are."""
    for _, stop in _SSN_NAMED.find_all(data, begin, end):
        if not _is_alnum(data, stop) and _is_ssn(data[stop - 9 : stop]):
            yield stop - 9, stop


def _stands_alone(data: bytes, start: int, end: int) -> bool:
    """Not a part of a longer number with dashes, as a part number or a date with its time is."""
    if _is_alnum(data, end) or (data[end : end + 1] == b"-" and _is_alnum(data, end + 1)):
        return False
    return not (start > 1 and data[start - 1 : start] == b"-" and _is_alnum(data, start - 2))


def _is_in_row(data: bytes, start: int, end: int) -> bool:
    """Between other short numbers and blanks, as in a table, or in a row of bytes in hexadecimal?"""
    return bool(
        _NUMBER_BEFORE.search(data[max(0, start - _LONGEST_IN_ROW) : start])
        or _NUMBER_BEHIND.match(data[end : end + _LONGEST_IN_ROW])
    )


def _is_ssn(text: bytes) -> bool:
    digits = text.translate(None, b"-. ")
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    return area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000"


# --- telephone numbers --------------------------------------------------------------------------------------

PHONE_INTERNATIONAL = rb"\+[1-9](?:[ .()/-]{0,2}[0-9]){7,15}"
PHONE_NATIONAL = (
    rb"\b00[1-9][0-9]{0,2}[ /-](?:[ ()/-]{0,2}[0-9]){6,12}"
    rb"|\([2-9][0-9]{2}\)[ -]?[0-9]{3}[-. ][0-9]{4}"
    rb"|\b[2-9][0-9]{2}(?:-[0-9]{3}-|\.[2-9][0-9]{2}\.| [2-9][0-9]{2}-)[0-9]{4}"
    rb"|(?:\b|\()0[1-9][0-9]{1,3}\)?[ /-][0-9]{3,4}[ -][0-9]{3,4}"
    rb"|\b0[1-9][0-9]{1,4}/[0-9]{4,8}"
    rb"|\b0[1-9][0-9]{2,3}-[0-9]{6,8}"
    rb"|\b07[0-9]{3} [0-9]{6}"
    rb"|\b0[1-9](?:(?: [0-9]{2}){4}|(?:\.[0-9]{2}){4})"
)
PHONE_NAMED = (
    rb"(?i)(?:\b|_)(?:(?:tele)?phone|tel|mobile|fax|whatsapp)(?:[_ -]?(?:number|num|no|nr))?[ .:=#\"'_-]{1,6}"
    rb"\(?[0-9](?:[ ()./-]{0,2}[0-9]){6,14}"
)
_PHONE_INTERNATIONAL = Pattern(PHONE_INTERNATIONAL)
_PHONE_NATIONAL = Pattern(PHONE_NATIONAL)
_PHONE_NAMED = Pattern(PHONE_NAMED)


def find_international_phones(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = begin
    while (found := _PHONE_INTERNATIONAL.find(data, position, end)) is not None:
        start, longest = found
        stop = _international_end(data, start, longest)
        if stop:
            yield start, stop
        position = stop or start + 1


def find_national_phones(data: bytes, begin: int, end: int) -> Iterator[Span]:
    """As they are written in North America, Britain, France and Germany, or dialled abroad with 00."""
    for start, stop in _PHONE_NATIONAL.find_all(data, begin, end):
        if (
            _stands_alone(data, start, stop)
            and not _is_decimal(data, start, stop)
            and not (b" " in data[start:stop] and _is_in_row(data, start, stop))
            and data[start - 1 : start] != b"/"
            and data[stop : stop + 1] != b":"
        ):
            yield start, stop


def find_named_phones(data: bytes, begin: int, end: int) -> Iterator[Span]:
    """Digits in any form, behind a word that says what they are."""
    for start, stop in _PHONE_NAMED.find_all(data, begin, end):
        if _is_alnum(data, stop):
            continue
        first = start
        while not _is_digit(data, first):
            first += 1
        yield first - (data[first - 1 : first] == b"("), stop


def _international_end(data: bytes, start: int, longest: int) -> int:
    """The longest that is a number, where it or one of its groups ends; 0 for none."""
    if _is_alnum(data, start - 1):
        return 0
    for stop in range(longest, start + 8, -1):
        if _is_digit(data, stop - 1) and not _is_alnum(data, stop) and _is_international(data[start:stop]):
            return stop
    return 0


def _is_international(text: bytes) -> bool:
    """ITU-T E.164: a country code that is assigned, at most 15 digits; North America by its own plan."""
    digits = text.translate(None, _NO_DIGITS)
    if not 8 <= len(digits) <= 15:
        return False
    if digits[0:1] == b"1":
        return len(digits) == 11 and digits[1] >= 0x32 and digits[4] >= 0x32
    return any(digits[:length] in CALLING_CODES for length in (1, 2, 3))


# --- IBANs --------------------------------------------------------------------------------------------------

IBAN = (
    rb"(?i)(?:\b|_)(?:" + b"|".join(IBAN_LENGTHS) + rb")"
    rb"[0-9]{2}(?:[a-z0-9]{11,30}|(?:[ .-][a-z0-9]{4}){2,7}(?:[ .-][a-z0-9]{1,4})?)"
)
_IBAN = Pattern(IBAN)
_IBAN_VALUES = {byte: int(chr(byte), 36) for byte in _ALNUM}


def find_ibans(data: bytes, begin: int, end: int) -> Iterator[Span]:
    position = begin
    while (found := _IBAN.find(data, position, end)) is not None:
        start = found[0] + (data[found[0]] == _UNDERSCORE)
        stop = _iban_end(data, start, end)
        if stop:
            yield start, stop
        position = stop or start + 1


def _iban_end(data: bytes, start: int, end: int) -> int:
    """ISO 13616: the country says how long it is, and ISO 7064 mod 97-10 whether it is one. 0 for none."""
    length = IBAN_LENGTHS.get(data[start : start + 2].upper())
    if length is None:
        return 0
    is_grouped = data[start + 4 : start + 5] in (b" ", b"-", b".")
    stop = start + length + ((length - 1) // 4 if is_grouped else 0)
    if stop > end or _is_alnum(data, stop):
        return 0
    text = data[start:stop].translate(None, b" .-") if is_grouped else data[start:stop]
    if len(text) != length or not text.isalnum():
        return 0
    number = 0
    for byte in text[4:] + text[:4]:
        value = _IBAN_VALUES[byte]
        number = (number * (10 if value < 10 else 100) + value) % 97
    return stop if number == 1 else 0
