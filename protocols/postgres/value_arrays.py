"""Arrays of any element type, in text and in binary form. Called by `values`, which translates ValueError,
IndexError and struct.error.

Source: PostgreSQL documentation, "Array Input and Output Syntax", and `array_send`: dimensions, a flag for
NULLs, the element type's OID, size and lower bound of each dimension, then the elements in row-major order.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from math import prod

import msgspec

MAX_DIMENSIONS = 6

_bounds = re.compile(r"(?:\[[+-]?[0-9]{1,10}:[+-]?[0-9]{1,10}\])+=", re.ASCII)
_bound = re.compile(r"\[([+-]?[0-9]+):([+-]?[0-9]+)\]", re.ASCII)
_token = re.compile(r'([{},])|"((?:[^"\\]++|\\.)*+)"|([^{},"\\]++)', re.DOTALL)
_escape = re.compile(r"\\(.)", re.DOTALL)
_to_escape = re.compile(r'["\\]')
_needs_quotes = re.compile(r'[{},"\\ \t\n\r\v\f]|\A\Z|\A[nN][uU][lL][lL]\Z')


class Array(msgspec.Struct, frozen=True):
    """Elements in row-major order; `dimensions` are (size, lower bound), () for the empty array."""

    dimensions: tuple[tuple[int, int], ...]
    elements: list[str | None]


def parse_array_text(text: str) -> Array:
    """Read what the server writes for an array with the delimiter ",". Raises ValueError."""
    head = _bounds.match(text)
    reader = _TextReader()
    position = head.end() if head else 0
    while position < len(text):
        token = _token.match(text, position)
        if token is None or reader.is_done:
            raise ValueError("malformed array")
        reader.take(token)
        position = token.end()
    sizes = reader.sizes()
    lowers = [1] * len(sizes)
    if head:
        bounds = [(int(low), int(high)) for low, high in _bound.findall(head[0])]
        if [high - low + 1 for low, high in bounds] != sizes:
            raise ValueError("array bounds do not fit")
        lowers = [low for low, _ in bounds]
    return Array(tuple(zip(sizes, lowers, strict=True)), reader.elements)


class _TextReader:
    """Takes tokens; keeps how many items each open level has, and that all levels of a depth agree."""

    def __init__(self) -> None:
        self.elements: list[str | None] = []
        self.is_done = False
        self._counts: list[int] = []  # items so far in each open brace
        self._sizes: dict[int, int] = {}  # by depth, once a brace of it was closed
        self._element_depth = 0
        self._item_due = True  # an item or an opening brace may come

    def take(self, token: re.Match[str]) -> None:
        match token[1]:
            case "{":
                self._open()
            case "}":
                self._close()
            case ",":
                if self._item_due or not self._counts:
                    raise ValueError("malformed array")
                self._item_due = True
            case _:
                self._item(token)

    def _open(self) -> None:
        if not self._item_due or len(self._counts) == MAX_DIMENSIONS:
            raise ValueError("malformed array")
        if self._counts:
            self._counts[-1] += 1
        self._counts.append(0)

    def _close(self) -> None:
        depth = len(self._counts)
        if not depth:
            raise ValueError("malformed array")
        count = self._counts.pop()
        # "{}" is the empty array, as a whole only; elsewhere a brace may not close where an item is due.
        if self._item_due and (count or self._counts or self._sizes):
            raise ValueError("malformed array")
        if self._sizes.setdefault(depth, count) != count:
            raise ValueError("array is not rectangular")
        self._item_due = False
        self.is_done = depth == 1

    def _item(self, token: re.Match[str]) -> None:
        depth = len(self._counts)
        if (
            not self._item_due
            or not depth
            or (self._element_depth or depth) != depth
            or depth in self._inner()
        ):
            raise ValueError("malformed array")
        self._element_depth = depth
        self._counts[-1] += 1
        self._item_due = False
        if token[3] is None:
            self.elements.append(_escape.sub(r"\1", token[2]))
        elif token[3].upper() == "NULL":
            self.elements.append(None)
        else:
            self.elements.append(token[3])

    def _inner(self) -> set[int]:
        """Depths that hold arrays, so cannot hold elements."""
        return {depth - 1 for depth in self._sizes}

    def sizes(self) -> list[int]:
        if not self.is_done:
            raise ValueError("malformed array")
        if not self.elements:
            if len(self._sizes) > 1:
                raise ValueError("malformed array")
            return []
        sizes = [self._sizes[depth] for depth in sorted(self._sizes)]
        if len(sizes) != self._element_depth or prod(sizes) != len(self.elements):
            raise ValueError("array is not rectangular")
        return sizes


def format_array_text(array: Array) -> str:
    """The literal as the server writes it."""
    if not array.dimensions:
        return "{}"
    items = ["NULL" if e is None else _quoted(e) for e in array.elements]
    for size, _ in reversed(array.dimensions):
        items = ["{" + ",".join(items[at : at + size]) + "}" for at in range(0, len(items), size)]
    if all(lower == 1 for _, lower in array.dimensions):
        return items[0]
    return "".join(f"[{lower}:{lower + size - 1}]" for size, lower in array.dimensions) + "=" + items[0]


def _quoted(element: str) -> str:
    if not _needs_quotes.search(element):
        return element
    return '"' + _to_escape.sub(r"\\\g<0>", element) + '"'


def read_array_binary(data: bytes, element_oid: int, decode: Callable[[bytes], str]) -> Array:
    """Read an array whose elements must be of `element_oid`. Raises ValueError, struct.error."""
    count, has_null, oid = struct.unpack_from(">iiI", data)
    if not 0 <= count <= MAX_DIMENSIONS or has_null not in (0, 1) or oid != element_oid:
        raise ValueError("malformed array")
    numbers = struct.unpack_from(f">{2 * count}i", data, 12)
    dimensions = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    if any(size < 1 for size, _ in dimensions):
        raise ValueError("malformed array")
    total = prod(size for size, _ in dimensions) if dimensions else 0
    position = 12 + 8 * count
    if total * 4 > len(data) - position:
        raise ValueError("array is shorter than it says")
    elements: list[str | None] = []
    for _ in range(total):
        (size,) = struct.unpack_from(">i", data, position)
        position += 4
        if size < -1 or position + size > len(data):
            raise ValueError("malformed array")
        elements.append(None if size == -1 else decode(data[position : position + size]))
        position += max(size, 0)
    if position != len(data):
        raise ValueError("trailing bytes")
    return Array(dimensions, elements)


def write_array_binary(array: Array, element_oid: int, encode: Callable[[str], bytes]) -> bytes:
    dimensions = array.dimensions
    numbers = [number for dimension in dimensions for number in dimension]
    has_null = int(any(element is None for element in array.elements))
    parts = [struct.pack(f">iiI{len(numbers)}i", len(dimensions), has_null, element_oid, *numbers)]
    for element in array.elements:
        if element is None:
            parts.append(b"\xff\xff\xff\xff")
        else:
            value = encode(element)
            parts.append(len(value).to_bytes(4) + value)
    return b"".join(parts)
