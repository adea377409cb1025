"""What a masked value becomes, in PostgreSQL's text form, with its type kept.

Owns the methods (redact, partial, pseudonym, null, fixed) and what each makes of each kind of value. A
result is always a valid literal of the kind it was asked for, and never longer than `limit` where the type
has a length. What cannot be masked is refused (`UnmaskableType`), never passed on. Pure: keys are handed
in by the daemon. Called by the gate for every value that a mask obligation names; arrays are taken apart
and put together by the caller.
"""

from __future__ import annotations

import base64
import datetime
import hmac
import json
import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import AnyStr

from policy.facts import Use

KINDS = frozenset(
    {
        "text",
        "bool",
        "int2",
        "int4",
        "int8",
        "float4",
        "float8",
        "numeric",
        "date",
        "time",
        "timetz",
        "timestamp",
        "timestamptz",
        "uuid",
        "json",
        "jsonb",
        "bytea",
    }
)
MIN_KEY_BYTES = 16
MAX_STARS = 64
_STARS = "*" * MAX_STARS
REDACTED = "[redacted]"

_EMPTY = {
    "bool": "f",
    "int2": "0",
    "int4": "0",
    "int8": "0",
    "float4": "0",
    "float8": "0",
    "numeric": "0",
    "date": "1970-01-01",
    "time": "00:00:00",
    "timetz": "00:00:00+00",
    "timestamp": "1970-01-01 00:00:00",
    "timestamptz": "1970-01-01 00:00:00+00",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "json": f'"{REDACTED}"',
    "jsonb": f'"{REDACTED}"',
    "bytea": "\\x",
}


class MaskingError(Exception):
    """A mask that cannot be applied."""


class UnmaskableType(MaskingError):
    """The kind of value is not one that masks know."""


class MaskingKeyMissing(MaskingError):
    """A pseudonym mask names a key that was not handed in, or that is too short to keep a secret."""


@dataclass(frozen=True, slots=True)
class Redact:
    """A fixed stand-in for every value."""


@dataclass(frozen=True, slots=True)
class Null:
    """NULL for every value."""


@dataclass(frozen=True, slots=True)
class Partial:
    """Stars but for the first and last characters of a text, at most half of it."""

    keep_first: int = 0
    keep_last: int = 0


@dataclass(frozen=True, slots=True)
class Pseudonym:
    """The same stand-in for the same value, derived with a key named `key`."""

    key: str


@dataclass(frozen=True, slots=True)
class Fixed:
    """The text `value` where it is a literal of the kind, else the stand-in of `Redact`."""

    value: str


Method = Redact | Null | Partial | Pseudonym | Fixed

# The most concealing first: decides when several masks name one column.
_CONCEALMENT: tuple[type[Method], ...] = (Redact, Null, Fixed, Pseudonym, Partial)


@dataclass(frozen=True, slots=True, repr=False)
class Mask:
    """One mask of the document. `uses`: what a statement may do with the column beside showing it masked.

    `key` is the secret of a pseudonym (None until `with_key`); it is never part of a repr.
    """

    name: str
    method: Method
    uses: frozenset[Use] = frozenset()
    key: bytes | None = None

    def __repr__(self) -> str:
        return f"Mask({self.name!r}, {self.method!r})"

    @property
    def is_null(self) -> bool:
        return isinstance(self.method, Null)

    @property
    def concealment(self) -> int:
        """0 conceals the most. Redact, null, fixed, pseudonym, partial."""
        return _CONCEALMENT.index(type(self.method))

    def with_key(self, keys: Mapping[str, bytes]) -> Mask:
        """This mask with its key, where it needs one. Raises MaskingKeyMissing."""
        if not isinstance(self.method, Pseudonym):
            return self
        key = keys.get(self.method.key)
        if key is None:
            raise MaskingKeyMissing(f"mask {self.name}: there is no masking key named {self.method.key}")
        if len(key) < MIN_KEY_BYTES:
            raise MaskingKeyMissing(
                f"mask {self.name}: the masking key {self.method.key} is shorter than {MIN_KEY_BYTES} bytes"
            )
        return Mask(self.name, self.method, self.uses, key)

    @property
    def is_pseudonym(self) -> bool:
        return isinstance(self.method, Pseudonym)

    @property
    def is_constant(self) -> bool:
        """Every value of one kind becomes the same, so it may be worked out once."""
        return isinstance(self.method, Redact | Fixed)

    def text_function(self, limit: int | None = None) -> Callable[[str], str | None]:
        """`apply` for values of the kind "text", made ready for one column: called once a row."""
        if isinstance(self.method, Partial):
            return _starring(self.method, _STARS, limit)
        return lambda text: self.apply(text, "text", limit)

    def ascii_function(self, limit: int | None = None) -> Callable[[bytes], bytes] | None:
        """The same for text that is ASCII and has not been decoded; None where that would not be quicker."""
        return _starring(self.method, _STARS.encode(), limit) if isinstance(self.method, Partial) else None

    def apply(self, value: str | None, kind: str, limit: int | None = None) -> str | None:
        """`value` (text form of a `kind`) masked; NULL stays None.

        limit: characters that varchar(n) or char(n) allows. Raises UnmaskableType, and MaskingKeyMissing
        for a pseudonym without its key.
        """
        if value is None or isinstance(self.method, Null):
            return None
        if kind not in KINDS:
            raise UnmaskableType(f"mask {self.name}: values of the kind {kind} cannot be masked")
        match self.method:
            case Redact():
                return redacted(kind, limit)
            case Partial():
                return _partial(self.method, value, kind, limit)
            case Pseudonym():
                if self.key is None:
                    raise MaskingKeyMissing(f"mask {self.name}: its key {self.method.key} has not been given")
                return pseudonym(self.key, value, kind, limit)
            case Fixed():
                return _fixed(self.method.value, kind, limit)


def redacted(kind: str, limit: int | None = None) -> str:
    """The stand-in for any value of `kind`."""
    return _cut(REDACTED, limit) if kind == "text" else _EMPTY[kind]


def _cut(text: str, limit: int | None) -> str:
    return text if limit is None else text[:limit]


# --- partial ------------------------------------------------------------------------------------------------


def _partial(method: Partial, value: str, kind: str, limit: int | None) -> str:
    if kind == "text":
        return _cut(_starred(method, value), limit)
    if kind in ("json", "jsonb"):

        def leaf(scalar: object) -> object:
            return _starred(method, scalar) if isinstance(scalar, str) else _blank(scalar)

        return _json_leaves(value, leaf)
    return redacted(kind)


def _starring(method: Partial, all_stars: AnyStr, limit: int | None) -> Callable[[AnyStr], AnyStr]:
    """Never more than half is kept, so that a short value is not given away."""
    keep_first, keep_last = method.keep_first, method.keep_last

    def starred(text: AnyStr) -> AnyStr:
        length = len(text)
        most = length >> 1
        last = keep_last if keep_last < most else most
        first = keep_first if keep_first < most - last else most - last
        masked = text[:first] + all_stars[: length - first - last] + text[length - last :]
        return masked if limit is None else masked[:limit]

    def starred_but_the_last(text: AnyStr) -> AnyStr:
        hidden = len(text) - keep_last
        if hidden < keep_last:
            hidden = (len(text) + 1) >> 1
        return all_stars[:hidden] + text[hidden:]

    if limit is None and not keep_first:
        return starred_but_the_last
    return starred


def _starred(method: Partial, text: str) -> str:
    return _starring(method, _STARS, None)(text)


def _blank(scalar: object) -> object:
    if isinstance(scalar, bool):
        return False
    return None if scalar is None else 0


def _json_leaves(text: str, leaf: Callable[[object], object]) -> str:
    """The document with every scalar replaced; keys stay. One that cannot be read is redacted whole."""
    try:
        replaced = _replace(json.loads(text), leaf)
        encoded = json.dumps(replaced, ensure_ascii=False)
        encoded.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, written as an escape
        return json.dumps(replaced)
    except (ValueError, RecursionError):
        return redacted("json")
    return encoded


def _replace(node: object, leaf: Callable[[object], object]) -> object:
    if isinstance(node, dict):
        return {key: _replace(value, leaf) for key, value in node.items()}
    if isinstance(node, list):
        return [_replace(value, leaf) for value in node]
    return leaf(node)


# --- pseudonym ----------------------------------------------------------------------------------------------

_INT_MAX = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1}
_FLOAT_MAX = {"float4": 2**24 - 1, "float8": 2**53 - 1}
_NUMERIC_MAX = 10**9 - 1
_FIRST_DAY = datetime.date(1900, 1, 1)
_DAYS = (datetime.date(2100, 12, 31) - _FIRST_DAY).days + 1


def pseudonym(key: bytes, value: str, kind: str, limit: int | None = None) -> str:
    """The stand-in of `value` under `key`: the same for the same value, key and kind; not to be turned back.

    Kinds have separate spaces, so that a number and its text do not betray each other.
    """
    if kind in ("json", "jsonb"):
        return _json_leaves(value, lambda scalar: _pseudonym_leaf(key, scalar))
    digest = _digest(key, kind, value)
    number = int.from_bytes(digest, "big")
    match kind:
        case "text":
            return _cut(_token(digest), limit)
        case "int2" | "int4" | "int8":
            return str(number % _INT_MAX[kind] + 1)
        case "float4" | "float8":
            return str(number % _FLOAT_MAX[kind] + 1)
        case "numeric":
            return str(number % _NUMERIC_MAX + 1)
        case "uuid":
            return _uuid(digest)
        case "date":
            return _day(number)
        case "time":
            return _time(number)
        case "timetz":
            return f"{_time(number)}+00"
        case "timestamp":
            return f"{_day(number)} {_time(number // _DAYS)}"
        case "timestamptz":
            return f"{_day(number)} {_time(number // _DAYS)}+00"
        case "bytea":
            return f"\\x{digest[:16].hex()}"
        case _:  # bool: a pseudonym of two values is a rename, and tells everything
            return redacted(kind)


def _digest(key: bytes, kind: str, value: str) -> bytes:
    return hmac.digest(key, f"{kind}\0{value}".encode("utf-8", "surrogatepass"), "sha256")


def _token(digest: bytes) -> str:
    return "p_" + base64.b32encode(digest[:10]).decode().lower()


def _uuid(digest: bytes) -> str:
    """A version 8 UUID (RFC 9562, 5.8): its bits but version and variant come from the digest."""
    number = int.from_bytes(digest[:16], "big")
    number = number & ~(0xF << 76) | (0x8 << 76)
    number = number & ~(0x3 << 62) | (0x2 << 62)
    return str(uuid.UUID(int=number))


def _day(number: int) -> str:
    return (_FIRST_DAY + datetime.timedelta(days=number % _DAYS)).isoformat()


def _time(number: int) -> str:
    minutes, seconds = divmod(number % 86400, 60)
    return f"{minutes // 60:02}:{minutes % 60:02}:{seconds:02}"


def _pseudonym_leaf(key: bytes, scalar: object) -> object:
    if isinstance(scalar, str):
        return _token(_digest(key, "text", scalar))
    if isinstance(scalar, bool) or scalar is None:
        return _blank(scalar)
    return int.from_bytes(_digest(key, "json", str(scalar)), "big") % _INT_MAX["int4"] + 1


# --- fixed --------------------------------------------------------------------------------------------------

_INTEGER = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_NUMBER = re.compile(r"-?[0-9]{1,300}(\.[0-9]{1,300})?", re.ASCII)
_ZONE = r"[+-](0[0-9]|1[0-5])(:[0-5][0-9])?"
_CLOCK = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_TIME_FORMS = {
    "time": re.compile(_CLOCK, re.ASCII),
    "timetz": re.compile(_CLOCK + _ZONE, re.ASCII),
    "timestamp": re.compile(rf"[0-9-]{{10}} {_CLOCK}", re.ASCII),
    "timestamptz": re.compile(rf"[0-9-]{{10}} {_CLOCK}{_ZONE}", re.ASCII),
}
_BYTEA = re.compile(r"\\x([0-9a-f]{2})*", re.ASCII)
_BOOLS = {"true": "t", "t": "t", "false": "f", "f": "f"}
_FLOAT4_MAX = 3.4e38


def _fixed(value: str, kind: str, limit: int | None) -> str:
    literal = _literal(value, kind, limit)
    return redacted(kind, limit) if literal is None else literal


def _literal(value: str, kind: str, limit: int | None) -> str | None:
    """`value` as a literal of `kind`, None when it is none."""
    match kind:
        case "text":
            return value if limit is None or len(value) <= limit else None
        case "bool":
            return _BOOLS.get(value)
        case "int2" | "int4" | "int8":
            fits = _INTEGER.fullmatch(value) and -_INT_MAX[kind] - 1 <= int(value) <= _INT_MAX[kind]
        case "float4":
            fits = _NUMBER.fullmatch(value) and abs(float(value)) <= _FLOAT4_MAX
        case "float8":
            fits = _NUMBER.fullmatch(value) and math.isfinite(float(value))
        case "numeric":
            fits = _NUMBER.fullmatch(value) is not None
        case "date":
            fits = _is_day(value)
        case "time" | "timetz":
            fits = _TIME_FORMS[kind].fullmatch(value) is not None
        case "timestamp" | "timestamptz":
            fits = _TIME_FORMS[kind].fullmatch(value) is not None and _is_day(value[:10])
        case "uuid":
            return _canonical_uuid(value)
        case "json" | "jsonb":
            fits = _is_json(value)
        case _:
            fits = _BYTEA.fullmatch(value) is not None
    return value if fits else None


def _is_day(value: str) -> bool:
    try:
        return len(value) == 10 and datetime.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False


def _canonical_uuid(value: str) -> str | None:
    try:
        return str(uuid.UUID(value))
    except ValueError:
        return None


def _is_json(value: str) -> bool:
    def refuse(constant: str) -> None:
        raise ValueError(constant)  # NaN and Infinity are no JSON

    try:
        json.loads(value, parse_constant=refuse)
    except (ValueError, RecursionError):
        return False
    return "\\u0000" not in value
