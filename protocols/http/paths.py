"""The path of a request: its one canonical form, its decoded form, and what else a target may read it as (RFC 3986).

A path that two servers are known to read in two ways is refused, never repaired: peers of this gateway fell to dot
segments, encoded slashes and path parameters that the judge and the target resolved differently. What may be sent but
may be read in a second way (`;` parameters, kept `%2F`, `?` decoded too early, dots and blanks that Windows leaves out,
Unicode in another form) is told as further readings, so that a rule can count them. Called by `targets`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import NamedTuple

from protocols.errors import RemoteProtocolError

# Nothing to decode, no segment that is empty or begins or ends with a dot, no parameters: its own canonical and decoded
# form. Nearly all are.
_PLAIN = re.compile(r"(?=/)(?:/(?!\.)[A-Za-z0-9._~!$&'()*+,:=@-]++(?<!\.)|(?!))*+/?")
_SOUND = re.compile(r"/[!-~]*")
_PART = re.compile(r"%([0-9A-Fa-f]{2})|(%)|([^A-Za-z0-9._~!$&'()*+,;:=@/-])")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_KEPT_SLASH = "%2F"
_DOTS = re.compile(r"\.+[ \t]*(?:;.*)?", re.DOTALL)
_PARAMETERS = re.compile(r";[^/]*")
_TRAILING = re.compile(r"[. ]+(?=/|\Z)")
# Characters that some servers fold into a dot, slash, backslash, percent, semicolon, question mark or number sign
# ("best fit" code pages do, where compatibility folding does not).
_LOOK_ALIKES = frozenset(
    "\u2024\u2025\u2026\u2044\u2215\u2216\u29f5\u29f8\u29f9\u3002\ufe52\ufe68\uff0e\uff0f\uff3c\uff05\uff1b\uff1f\uff03"
)
_STRUCTURAL = "./\\%;?#"


class Path(NamedTuple):
    """canonical: percent-encoded, to be sent. decoded: to be matched (a kept encoded slash stays `%2F` in it)."""

    canonical: str
    decoded: str
    others: tuple[str, ...] = ()


def read_path(raw: str, *, keep_encoded_slashes: bool) -> Path:
    """Raises RemoteProtocolError (code 400) that says what is wrong with it."""
    if _PLAIN.fullmatch(raw):
        return Path(raw, raw)
    if not _SOUND.fullmatch(raw):
        raise _refused("it does not begin with a slash, or holds blanks or controls")
    if "\\" in raw:
        raise _refused("it holds a backslash")
    if "#" in raw:
        raise _refused("it holds a fragment")
    canonical = _PART.sub(_canonical_part, raw)
    if "%5C" in canonical:
        raise _refused("it holds an encoded backslash")
    if _KEPT_SLASH in canonical and not keep_encoded_slashes:
        raise _refused("it holds an encoded slash")
    decoded = _decoded(canonical)
    readings = _readings(decoded)
    for reading in readings:
        _check_segments(reading)
    return Path(canonical, decoded, tuple(readings[1:]))


def percent_decoded(text: str, what: str) -> str:
    """Of valid percent encoding and UTF-8. what: named in the error."""
    if "%" not in text:
        return text
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise RemoteProtocolError(f"{what} holds a percent sign without two hexadecimal digits", "400")
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes((int(match[1], 16),)), text.encode("ascii"))
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise RemoteProtocolError(f"{what} is not valid UTF-8", "400") from None


def _canonical_part(match: re.Match[str]) -> str:
    if match[2]:
        raise _refused("it holds a percent sign without two hexadecimal digits")
    if match[3]:
        return f"%{ord(match[3]):02X}"
    value = int(match[1], 16)
    if value < 0x20 or value == 0x7F:
        raise _refused("it holds an encoded control character")
    return chr(value) if value in _UNRESERVED else f"%{value:02X}"


def _decoded(canonical: str) -> str:
    kept = canonical.replace(_KEPT_SLASH, "/") if _KEPT_SLASH in canonical else canonical
    text = percent_decoded(kept, "the path")
    if re.search(r"%[0-9A-Fa-f]{2}|%u[0-9A-Fa-f]{4}", text):
        raise _refused("it is encoded twice")
    if not text.isascii():
        _check_characters(text)
    if kept is canonical:
        return text
    # The slashes that were kept are told apart from the others by decoding each piece between them.
    return _KEPT_SLASH.join(percent_decoded(piece, "the path") for piece in canonical.split(_KEPT_SLASH))


def _check_characters(text: str) -> None:
    """Of Unicode only what nobody takes for a dot, a slash or another character that paths are made of."""
    if not _LOOK_ALIKES.isdisjoint(text):
        raise _refused("it holds a character that some servers take for a dot or slash")
    folded = unicodedata.normalize("NFKC", text)
    if any(folded.count(each) != text.count(each) for each in _STRUCTURAL):
        raise _refused("it holds a character that some servers take for a dot or slash")
    if any(unicodedata.category(each) in ("Cc", "Cf", "Zl", "Zp") for each in text):
        raise _refused("it holds an invisible or control character")


def _readings(decoded: str) -> list[str]:
    """The decoded path first, then each other path that a target may take it for."""
    readings = [decoded]
    for reread in _REREADINGS:
        for reading in tuple(readings):
            other = reread(reading)
            if other not in readings:
                readings.append(other)
    return readings


def _with_slashes(path: str) -> str:
    return path.replace(_KEPT_SLASH, "/")


def _without_parameters(path: str) -> str:
    return _PARAMETERS.sub("", path)


def _as_windows(path: str) -> str:
    """Names of files there end neither in dots nor in blanks."""
    return _TRAILING.sub("", path)


def _cut_short(path: str) -> str:
    return re.split(r"[?#]", path, maxsplit=1)[0]


def _composed(path: str) -> str:
    return unicodedata.normalize("NFC", path)


_REREADINGS: tuple[Callable[[str], str], ...] = (
    _with_slashes,
    _without_parameters,
    _cut_short,
    _as_windows,
    _composed,
)


def _check_segments(path: str) -> None:
    segments = path.split("/")
    if "" in segments[1:-1]:
        raise _refused("it holds an empty segment (`//`, or parameters alone)")
    for segment in segments:
        if _DOTS.fullmatch(segment):
            raise _refused("it holds a segment of dots")


def _refused(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(f"a request path is refused because {why}", "400")
