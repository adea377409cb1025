"""Detectors over PostgreSQL's values, by type and format: what one value becomes.

Text is replaced inside, with its type kept: text and its kin, json and jsonb, xml, bytea, arrays of them, and in text
form whatever else has a text (enums, composites, ranges, types of extensions). A number or an address of a network
cannot hold a stand-in and becomes NULL. In binary form composites and arrays of any type are taken apart; what is not
known is looked at as it is, and becomes NULL when something is found in it. Called by `rows` and `copies`; no I/O.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable, Hashable

from policy.detectors import Detection, Match
from policy.detectors.matches import placeholder
from protocols.errors import ProtocolError
from protocols.postgres.values import (
    ARRAY_ELEMENTS,
    TYPE_KINDS,
    UnsupportedType,
    binary_from_text,
    map_array_text,
    text_from_binary,
)
from proxyd.gates.postgres.detecting.json_values import detected_json, is_json

Rewrite = Callable[[bytes | None], bytes | None]

_CHAR = 18
_BYTEA_OID = 17
_XML = 142
_RECORD = 2249
_JSON = frozenset({"json", "jsonb"})
_BYTEA = "bytea"
_HEX = b"0123456789abcdefABCDEF"
_CARD_NUMBERS = frozenset({"int8", "numeric"})
_NETWORKS = frozenset({"inet", "cidr"})
# Kinds without a built-in detector that could match them: looked at only for a policy's own patterns.
_PLAIN = frozenset(
    {
        "bool",
        "date",
        "float4",
        "float8",
        "int2",
        "int4",
        "oid",
        "time",
        "timestamp",
        "timestamptz",
        "timetz",
        "uuid",
    }
)
# What would end a text in a composite, an array, a range or an hstore.
_PUNCTUATION = frozenset(b"\"'\\,(){}[]=> \t\r\n")
_NO_CONTROLS = bytes(byte for byte in range(256) if byte >= 0x20 or byte in b"\t\n\r")
_HEAD = struct.Struct(">i").unpack_from
_FIELD = struct.Struct(">Ii").unpack_from
_pack_i32 = struct.Struct(">i").pack
_MAX_DEPTH = 16


class ValueDetection:
    """What detectors make of values. counts: what was found so far, by kind."""

    __slots__ = ("_detection", "_has_cards", "_has_ips", "_told", "counts", "results")

    def __init__(self, detection: Detection) -> None:
        self._detection = detection
        names = detection.detectors.names
        self._has_cards = "credit_card" in names
        self._has_ips = "ip" in names
        self.counts: Counter[str] = Counter()
        self._told: Counter[str] = Counter()
        self.results: dict[Hashable, object] = {}  # kept there by `detected_results`

    def take_news(self) -> Counter[str] | None:
        """What was found since the last call, None for nothing."""
        if self.counts.total() == self._told.total():
            return None
        news = self.counts - self._told
        self._told = self.counts.copy()
        return news

    @property
    def detection(self) -> Detection:
        return self._detection

    def rewriter(self, type_oid: int, format_code: int) -> Rewrite | None:
        """For the values of one column; None where nothing can be found in them.

        The function gives back the same object when nothing was found. What it raises is one of VALUE_FAULTS.
        """
        element = ARRAY_ELEMENTS.get(type_oid)
        kind = TYPE_KINDS.get(element or type_oid)
        if type_oid == _CHAR or (kind is not None and not self._concerns(kind)):
            return None
        if format_code:
            return self._binary(type_oid)
        if kind is None:
            return _on_values(self._opaque_text)
        if element is not None:
            return _on_values(lambda value: self._array_text(element, value))
        return _on_values(lambda value: self._plain_text(type_oid, value))

    def is_blind(self, type_oid: int, format_code: int) -> bool:
        """Can a value be in there that the bytes on the wire do not show?"""
        element = ARRAY_ELEMENTS.get(type_oid)
        kind = TYPE_KINDS.get(element or type_oid)
        if kind is None or kind == "text":
            return False
        if format_code:
            return kind not in _JSON and kind != _BYTEA and self._concerns(kind)
        return kind == _BYTEA

    def has_escapes(self, type_oid: int) -> bool:
        """May a backslash in it begin a value that is written otherwise?"""
        kind = TYPE_KINDS.get(ARRAY_ELEMENTS.get(type_oid) or type_oid)
        return kind in _JSON or kind is None

    def _concerns(self, kind: str) -> bool:
        if self._detection.detectors.has_own:
            return True
        if kind in _PLAIN:
            return False
        if kind in _CARD_NUMBERS:
            return self._has_cards
        return self._has_ips if kind in _NETWORKS else True

    # --- one value ------------------------------------------------------------------------------------------

    def text(self, value: bytes) -> bytes:
        replaced, counts = self._detection.replace_value(value)
        if counts:
            self.counts.update(counts)
        return replaced

    def _xml(self, value: bytes) -> bytes:
        replaced, counts = self._detection.detectors.replace(value, self._escaped)
        if counts:
            self.counts.update(counts)
        return replaced

    def _escaped(self, match: Match, value: bytes) -> bytes:
        new = self._detection.write(match, value)
        return new.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;")

    def _plain_text(self, type_oid: int, value: bytes) -> bytes | None:
        kind = TYPE_KINDS[type_oid]
        if type_oid == _XML:
            return self._xml(value)
        if kind == "text":
            return self.text(value)
        if kind in _JSON:
            return detected_json(value, self._detection, self.counts)
        if kind == _BYTEA:
            return self._bytea_text(value)
        return self._null_if_found(value, value)

    def _bytea_text(self, value: bytes) -> bytes:
        content = binary_from_text(_BYTEA_OID, value.decode())
        replaced = self.text(content)
        return value if replaced is content else text_from_binary(_BYTEA_OID, replaced).encode()

    def _null_if_found(self, text: bytes, value: bytes) -> bytes | None:
        found = self._detection.detectors.find(text)
        self.counts.update(match.kind for match in found)
        return None if found else value

    def _array_text(self, element_oid: int, value: bytes) -> bytes:
        is_changed = False

        def rewritten(item: str | None) -> str | None:
            nonlocal is_changed
            if item is None:
                return None
            old = item.encode()
            new = self._plain_text(element_oid, old)
            is_changed = is_changed or new is not old
            return None if new is None else new.decode("utf-8", "replace")

        text = map_array_text(value.decode(), rewritten)
        return text.encode() if is_changed else value

    def _opaque_text(self, value: bytes) -> bytes:
        """The text form of a type that is not known: nothing may come into it that has a meaning there.

        What looks like bytea in hexadecimal, or like JSON, is read as that.
        """
        if value[:2] == b"\\x" and not value[2:].translate(None, _HEX) and len(value) % 2 == 0:
            return self._bytea_text(value)
        if value[:1] in (b"{", b"[") and is_json(value):
            return detected_json(value, self._detection, self.counts)
        replaced, counts = self._detection.detectors.replace(value, self._harmless)
        if counts:
            self.counts.update(counts)
        return replaced

    def _harmless(self, match: Match, value: bytes) -> bytes:
        new = self._detection.write(match, value)
        return placeholder(match, value) if not new or any(byte in _PUNCTUATION for byte in new) else new

    # --- binary forms ---------------------------------------------------------------------------------------

    def _binary(self, type_oid: int, depth: int = 0) -> Rewrite:
        return _on_values(lambda value: self._binary_value(type_oid, value, depth))

    def _binary_value(self, type_oid: int, value: bytes, depth: int) -> bytes | None:
        kind = TYPE_KINDS.get(type_oid)
        if depth > _MAX_DEPTH:
            return self._null_if_found(value, value)
        if type_oid == _XML:
            return self._xml(value)
        if kind in ("text", _BYTEA):
            return self.text(value)
        if kind == "json":
            return detected_json(value, self._detection, self.counts)
        if kind == "jsonb":
            content = value[1:]
            replaced = detected_json(content, self._detection, self.counts)
            return value if replaced is content else value[:1] + replaced
        if kind is not None:
            if not self._concerns(kind):
                return value
            return self._null_if_found(text_from_binary(type_oid, value).encode(), value)
        if type_oid in ARRAY_ELEMENTS or type_oid != _RECORD:
            array = self._array(value, depth)
            if array is not None:
                return array
        record = self._record(value, depth)
        return record if record is not None else self._unknown(value)

    def _unknown(self, value: bytes) -> bytes | None:
        """An enum or a citext is its text. Anything else that something is found in cannot be put together again."""
        return self.text(value) if _is_text(value) else self._null_if_found(value, value)

    def _array(self, value: bytes, depth: int) -> bytes | None:
        """array_send: dimensions, whether there are NULLs, type, sizes and bounds, elements. None for no array."""
        if len(value) < 12:
            return None
        dimensions, flags, element_oid = struct.unpack_from(">iiI", value)
        start = 12 + 8 * dimensions if 0 < dimensions <= 6 else 12
        if not 0 <= dimensions <= 6 or flags not in (0, 1) or start > len(value):
            return None
        count = 1 if dimensions else 0
        for at in range(12, start, 8):
            size = _HEAD(value, at)[0]
            if size < 1 or size > len(value):
                return None
            count *= size
        if count > len(value):
            return None
        spans = _spans(value, start, count, has_types=False)
        if spans is None:
            return None
        parts, has_null, is_changed = self._parts(value, spans, element_oid, depth)
        if not is_changed:
            return value
        head = value[:4] + _pack_i32(1 if has_null else flags) + value[8:start]
        return head + b"".join(parts)

    def _record(self, value: bytes, depth: int) -> bytes | None:
        """record_send: how many columns, then the type, the length and the value of each. None for no composite."""
        if len(value) < 4:
            return None
        (count,) = _HEAD(value)
        if not 0 < count <= 1664:
            return None
        spans = _spans(value, 4, count, has_types=True)
        if spans is None:
            return None
        parts, _, is_changed = self._parts(value, spans, None, depth)
        return value[:4] + b"".join(parts) if is_changed else value

    def _parts(
        self, value: bytes, spans: list[tuple[int, int, int]], element_oid: int | None, depth: int
    ) -> tuple[list[bytes], bool, bool]:
        """Each part again, its type and length in front; whether one is NULL; whether one has changed."""
        parts: list[bytes] = []
        has_null = is_changed = False
        for at, start, stop in spans:
            oid = element_oid if element_oid is not None else int.from_bytes(value[at : at + 4])
            head = value[at : start - 4]
            if stop < 0:
                has_null = True
                parts.append(head + _pack_i32(-1))
                continue
            old = value[start:stop]
            new = self._binary_value(oid, old, depth + 1)
            is_changed = is_changed or new is not old
            has_null = has_null or new is None
            parts.append(head + (_pack_i32(-1) if new is None else _pack_i32(len(new)) + new))
        return parts, has_null, is_changed


def _spans(value: bytes, start: int, count: int, *, has_types: bool) -> list[tuple[int, int, int]] | None:
    """(where the part begins, where its value begins, where that ends or -1 for NULL); None if it does not add up."""
    spans: list[tuple[int, int, int]] = []
    position = start
    head_bytes = 8 if has_types else 4
    for _ in range(count):
        if position + head_bytes > len(value):
            return None
        size = _FIELD(value, position)[1] if has_types else _HEAD(value, position)[0]
        first = position + head_bytes
        if size < -1 or first + size > len(value):
            return None
        spans.append((position, first, first + size if size >= 0 else -1))
        position = first + max(size, 0)
    return spans if position == len(value) else None


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return not value.translate(None, _NO_CONTROLS)


def _on_values(function: Callable[[bytes], bytes | None]) -> Rewrite:
    return lambda value: None if value is None else function(value)


VALUE_FAULTS = (UnsupportedType, ProtocolError, ValueError, struct.error)
