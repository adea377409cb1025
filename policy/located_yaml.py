"""YAML text to data that remembers where each value stands, and pydantic's findings turned into faults.

Owns: the strict YAML subset that policy.yaml and proxyd.yaml are written in (one document, text keys, no
duplicate keys, no anchors, aliases or tags, bounded size, depth and count), and the types that both documents
share (durations, sizes, names). Never reads a file: the caller hands over the text. Called by
`policy.document` and `proxyd.config`.

How a document is read:

    located = parse(text, "policy.yaml")          # DocumentError on bad YAML
    document = validate(PolicyDocument, located)  # DocumentError with every fault at once
    located.fault(("rules", 2, "name"), "...", "...")  # a Fault of the caller's own, at the right line

Models derive from `Section` (frozen, strict, unknown keys forbidden). A field's `examples` and `description`
appear in remedies. A validator that refuses raises `refusal(message, remedy, at=(...))`, not ValueError.
Scalars follow YAML 1.2: only true/false are booleans, `yes`, `on`, `010`, `12:30` and dates are text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, TypeVar

import msgspec
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError

from policy.faults import DocumentError, Fault, Located, Mark, Path, closest, refusal, render_path, shown
from policy.schema_faults import faults_of

__all__ = [
    "DocumentError",
    "Duration",
    "Fault",
    "Located",
    "Name",
    "Path",
    "Section",
    "Size",
    "closest",
    "duration_s",
    "parse",
    "refusal",
    "render_path",
    "size_bytes",
    "validate",
]

ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_CHARACTERS = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 2_000_000

_NULL = re.compile(r"(?:~|null|Null|NULL|)")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?")
_SURROGATE = re.compile("[\ud800-\udfff]")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


class Section(BaseModel):
    """Base of every model of a document: frozen, strict types, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


# --- YAML -------------------------------------------------------------------------------------------------


def parse(text: str, source: str) -> Located:
    """`text` as located data. Raises DocumentError: not YAML, too large, or outside of the strict subset."""
    if len(text) > MAX_CHARACTERS:
        raise DocumentError(
            [
                Fault(
                    source,
                    1,
                    1,
                    "",
                    f"larger than {MAX_CHARACTERS} characters",
                    "split or shorten the document",
                )
            ]
        )
    builder = _Builder(source)
    lone = _SURROGATE.search(text)  # not even UTF-8, and the parser would raise an error of another kind
    if lone is not None:
        raise DocumentError([_bad_character(text, lone.start(), source)])
    try:
        for event in yaml.parse(text, Loader=_EVENT_LOADER):
            builder.take(event)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        what = " ".join(part for part in (error.context, error.problem) if part)
        builder.faults.append(
            Fault(
                source,
                line,
                column,
                "",
                f"not valid YAML: {what}",
                "check indentation, quotes and brackets here",
            )
        )
    except yaml.reader.ReaderError as error:
        builder.faults.append(_bad_character(text, error.position, source))
    except _TooMuch:
        pass
    if builder.faults:
        raise DocumentError(builder.faults)
    return builder.located()


def _bad_character(text: str, position: int, source: str) -> Fault:
    before = text[:position]
    line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
    return Fault(
        source, line, column, "", "a character that YAML does not allow", "remove the control character"
    )


_EVENT_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _TooMuch(Exception):
    """A bound was passed: its fault is recorded, and reading stops."""


class _Container:
    """A mapping or sequence being read. `key` is the key whose value is awaited; `key_ok` False drops it."""

    __slots__ = ("data", "key", "key_ok", "mark", "path")

    def __init__(self, data: dict[str, Any] | list[Any], mark: Mark, path: Path) -> None:
        self.data = data
        self.mark = mark
        self.path = path
        self.key: str | None = None
        self.key_ok = True


class _Builder:
    """Builds data and marks from YAML events without recursion, so that depth is a number and not a stack."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.faults: list[Fault] = []
        self._stack: list[_Container] = []
        self._root: Any = None
        self._root_mark = Mark(1, 1)
        self._nodes = 0
        self._documents = 0

    def located(self) -> Located:
        return Located(self._root, self.source, self._root_mark)

    def take(self, event: Any) -> None:
        match event:
            case yaml.DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    self._stop(event, "a second YAML document", "keep one document: remove the `---` line")
            case yaml.AliasEvent():
                self._complain(
                    event, f"alias *{event.anchor}", "write the value out: aliases are not accepted"
                )
                self._value(None, event)
            case yaml.ScalarEvent():
                self._check_node(event)
                self._scalar(event)
            case yaml.SequenceStartEvent():
                self._check_node(event)
                self._open([], event)
            case yaml.MappingStartEvent():
                self._check_node(event)
                self._open({}, event)
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._stack.pop()
            case _:
                pass

    def _check_node(self, event: Any) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            self._stop(event, f"more than {MAX_NODES} values", "split or shorten the document")
        if event.anchor is not None:
            self._complain(
                event, f"anchor &{event.anchor}", "remove it: anchors and aliases are not accepted"
            )
        if event.tag is not None:
            self._complain(event, f"tag {event.tag}", "remove it: tags are not accepted")

    def _scalar(self, event: Any) -> None:
        value: str = event.value
        if _UNUSABLE.search(value):
            self._complain(event, "a NUL or surrogate character in a text", "remove the escape")
            value = ""
        top = self._stack[-1] if self._stack else None
        if top is not None and isinstance(top.data, dict) and top.key is None:
            self._take_key(top, value, event)
            return
        self._value(value if event.style else _resolve(value), event)

    def _take_key(self, top: _Container, key: str, event: Any) -> None:
        top.key, top.key_ok = key, True
        if key == "":
            self._complain(event, "an empty key", "name the key, or remove the line")
        elif key in top.data:
            top.key_ok = False
            first = top.mark.children[key].line
            line, column = _at(event)
            self.faults.append(
                Fault(
                    self.source,
                    line,
                    column,
                    render_path((*top.path, key)),
                    f"duplicate key, first given on line {first}",
                    "keep one of the two",
                )
            )
            return
        line, column = _at(event)
        top.mark.children[key] = Mark(line, column)

    def _value(self, value: Any, event: Any) -> tuple[Mark, Path]:
        """Put `value` where it belongs; returns its mark and path."""
        if not self._stack:
            self._root = value
            return self._root_mark, ()
        top = self._stack[-1]
        if isinstance(top.data, list):
            line, column = _at(event)
            mark = Mark(line, column)
            index = len(top.data)
            top.mark.children[index] = mark
            top.data.append(value)
            return mark, (*top.path, index)
        if top.key is None:  # a mapping, sequence or alias used as a key
            self._complain(event, "a key that is not a plain word", "use text as the key")
            top.key, top.key_ok = "", False
            return Mark(*_at(event)), top.path
        key, top.key = top.key, None
        if not top.key_ok:
            return Mark(*_at(event)), (*top.path, key)
        top.data[key] = value
        return top.mark.children[key], (*top.path, key)

    def _open(self, data: dict[str, Any] | list[Any], event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._stop(event, f"nested deeper than {MAX_DEPTH} levels", "flatten the document")
        mark, path = self._value(data, event)
        self._stack.append(_Container(data, mark, path))

    def _complain(self, event: Any, message: str, remedy: str) -> None:
        line, column = _at(event)
        path = render_path(self._stack[-1].path) if self._stack else ""
        self.faults.append(Fault(self.source, line, column, path, message, remedy))

    def _stop(self, event: Any, message: str, remedy: str) -> NoReturn:
        self._complain(event, message, remedy)
        raise _TooMuch


def _at(event: Any) -> tuple[int, int]:
    return event.start_mark.line + 1, event.start_mark.column + 1


def _resolve(text: str) -> Any:
    """A plain (unquoted) scalar as YAML 1.2's core schema reads it, decimal numbers only."""
    if text in _BOOL:
        return _BOOL[text]
    if _NULL.fullmatch(text):
        return None
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


# --- pydantic ---------------------------------------------------------------------------------------------


def validate(model: type[ModelT], located: Located, *, context: Mapping[str, Any] | None = None) -> ModelT:
    """`located` as an instance of `model`. Raises DocumentError with a Fault for every error found.

    Strictness is that of JSON: a list fills a tuple or a set, a text an Enum, but "5" is no number and 1 no
    boolean.
    """
    try:
        encoded = msgspec.json.encode(located.data)
        return model.model_validate_json(encoded, context=dict(context) if context is not None else None)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise DocumentError(faults_of(model, located, details)) from None


# --- shared types -----------------------------------------------------------------------------------------

_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_DURATION_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"([0-9]{1,12})(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB)")
_SIZE_UNITS = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}


def duration_s(value: object) -> float:
    """ "10s", "5m", "8h", "250ms" or "1d" in seconds; refuses zero and a number without its unit."""
    found = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refusal(
            f"{shown(value)} is not a duration",
            "write a number and a unit: `250ms`, `10s`, `5m`, `8h` or `1d`",
        )
    if int(found[1]) == 0:
        raise refusal("a duration of nothing", "write a duration above zero, or remove the key")
    return int(found[1]) * _DURATION_UNITS[found[2]]


def size_bytes(value: object) -> int:
    """ "64KiB", "16MiB", "1GB" or "512B" in bytes; refuses zero and a number without its unit."""
    found = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        raise refusal(
            f"{shown(value)} is not a size", "write a number and a unit: `512B`, `64KiB`, `16MiB` or `1GB`"
        )
    if int(found[1]) == 0:
        raise refusal("a size of nothing", "write a size above zero, or remove the key")
    return int(found[1]) * _SIZE_UNITS[found[2]]


Duration = Annotated[float, BeforeValidator(duration_s)]
"""Seconds, written with a unit: "10s", "5m", "8h", "250ms", "1d"."""

Size = Annotated[int, BeforeValidator(size_bytes)]
"""Bytes, written with a unit: "64KiB", "16MiB", "1GB"."""


def _checked_name(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise refusal(
            f"{shown(value)} is not a name", "use letters, digits, `.`, `_` and `-`, at most 128, no blanks"
        )
    return value


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

Name = Annotated[str, AfterValidator(_checked_name)]
"""A name of something in a document: letters, digits, `.`, `_` and `-`, at most 128."""
