"""YAML text to data that remembers where each value stands, and pydantic's findings turned into faults.

Owns: the strict YAML subset that policy.yaml and proxyd.yaml are written in (one document, text keys, no
duplicate keys, no anchors, aliases or tags, bounded size, depth and count), the `Fault` with its line and its
remedy, and the types both documents share (durations, sizes). Never reads a file: the caller hands over the text.
Called by `policy.document` and `proxyd.config`.

How a document is read:

    located = parse(text, "policy.yaml")          # DocumentError on bad YAML
    document = validate(PolicyDocument, located)  # DocumentError with every fault at once
    located.fault(("rules", 2, "name"), "...", "...")  # a Fault of the caller's own, at the right line

Models derive from `Section` (frozen, strict, unknown keys forbidden). A field's `examples` and `description` appear
in remedies. A validator that refuses raises `refusal(message, remedy, at=(...))` instead of ValueError.
Scalars follow YAML 1.2: only true/false are booleans, `yes`, `on`, `010`, `12:30` and dates are text.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NoReturn, TypeVar, Union, get_args, get_origin

import msgspec
import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, PydanticCustomError

Path = tuple[str | int, ...]
ModelT = TypeVar("ModelT", bound=BaseModel)

MAX_CHARACTERS = 16 * 1024 * 1024
MAX_DEPTH = 32
MAX_NODES = 2_000_000

_NULL = re.compile(r"(?:~|null|Null|NULL|)")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,2})?")
_UNUSABLE = re.compile("[\0\ud800-\udfff]")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a document. `line` and `column` count from 1; `path` is like "rules[2].postgres"."""

    source: str
    line: int
    column: int
    path: str
    message: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.source}:{self.line}:{self.column}: "
        path = f"{self.path}: " if self.path else ""
        return f"{where}{path}{self.message}; {self.remedy}"


class DocumentError(Exception):
    """The document cannot be used. `faults` lists everything found, in the order of the text."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults: tuple[Fault, ...] = tuple(sorted(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class Section(BaseModel):
    """Base of every model of a document: frozen, strict types, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, populate_by_name=True)


class _Mark:
    """Where one value stands, and the marks of what is inside it."""

    __slots__ = ("children", "column", "line")

    def __init__(self, line: int, column: int) -> None:
        self.line = line
        self.column = column
        self.children: dict[str | int, _Mark] = {}


class Located:
    """Parsed data (dict, list, str, int, float, bool, None) with the position of every value in the text."""

    def __init__(self, data: Any, source: str, root: _Mark) -> None:
        self.data = data
        self.source = source
        self._root = root

    def position(self, path: Path) -> tuple[int, int]:
        """Line and column (from 1) of the key or item at `path`, or of the nearest thing around it."""
        mark = self._root
        for part in path:
            inner = mark.children.get(part)
            if inner is None:
                break
            mark = inner
        return mark.line, mark.column

    def fault(self, path: Path, message: str, remedy: str) -> Fault:
        line, column = self.position(path)
        return Fault(self.source, line, column, render_path(path), message, remedy)


def render_path(path: Path) -> str:
    """("rules", 2, "postgres") as "rules[2].postgres"."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


def refusal(message: str, remedy: str, *, at: Path = ()) -> PydanticCustomError:
    """The error for validators to raise: `message` says what is wrong, `remedy` what to write instead.

    `at` is a path below the value being validated, for validators that look at several keys.
    """
    return PydanticCustomError("refusal", "{message}", {"message": message, "remedy": remedy, "at": list(at)})


def closest(word: str, known: Iterable[str]) -> str:
    """ "did you mean `x`? " when something known is near `word`, else ""."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`? " if near else ""


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
        before = text[: error.position]
        builder.faults.append(
            Fault(
                source,
                before.count("\n") + 1,
                len(before) - before.rfind("\n"),
                "",
                "a character that YAML does not allow",
                "remove the control character",
            )
        )
    except _TooMuch:
        pass
    if builder.faults:
        raise DocumentError(builder.faults)
    return builder.located()


_EVENT_LOADER: Any = yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader


class _TooMuch(Exception):
    """A bound was passed: its fault is recorded, and reading stops."""


class _Container:
    """A mapping or sequence being read. `key` is the key whose value is awaited; `key_ok` False drops it."""

    __slots__ = ("data", "key", "key_ok", "mark", "path")

    def __init__(self, data: dict[str, Any] | list[Any], mark: _Mark, path: Path) -> None:
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
        self._root_mark = _Mark(1, 1)
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
        top.mark.children[key] = _Mark(line, column)

    def _value(self, value: Any, event: Any) -> tuple[_Mark, Path]:
        """Put `value` where it belongs; returns its mark and path."""
        if not self._stack:
            self._root = value
            return self._root_mark, ()
        top = self._stack[-1]
        if isinstance(top.data, list):
            line, column = _at(event)
            mark = _Mark(line, column)
            index = len(top.data)
            top.mark.children[index] = mark
            top.data.append(value)
            return mark, (*top.path, index)
        if top.key is None:  # a mapping, sequence or alias used as a key
            self._complain(event, "a key that is not a plain word", "use text as the key")
            top.key, top.key_ok = "", False
            return _Mark(*_at(event)), top.path
        key, top.key = top.key, None
        if not top.key_ok:
            return _Mark(*_at(event)), (*top.path, key)
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

    Strictness is that of JSON: a list fills a tuple or a set, a text an Enum, but "5" is no number and 1 is no
    boolean.
    """
    try:
        encoded = msgspec.json.encode(located.data)
        return model.model_validate_json(encoded, context=dict(context) if context is not None else None)
    except ValidationError as error:
        details = error.errors(include_url=False)
        raise DocumentError(_faults(model, located, details)) from None


def _faults(model: type[BaseModel], located: Located, details: Sequence[ErrorDetails]) -> Iterator[Fault]:
    seen: set[Path] = set()
    for detail in details:
        kind = detail["type"]
        path = _path_in_data(located.data, detail["loc"], keep_last=kind == "missing")
        if kind == "refusal":
            context = detail.get("ctx", {})
            yield located.fault((*path, *context["at"]), str(context["message"]), str(context["remedy"]))
            continue
        if path in seen:  # the branches of a union all complain about the same value
            continue
        seen.add(path)
        message, remedy = _words(model, detail, path)
        yield located.fault(path, message, remedy)


def _path_in_data(data: Any, loc: Sequence[str | int], *, keep_last: bool) -> Path:
    """pydantic's location without the parts it adds itself (union branches, "[key]")."""
    path: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (keep_last and index == len(loc) - 1):
            continue
        path.append(part)
    return tuple(path)


_EXPECTED = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "`true` or `false`",
    "list_type": "a list, as in `[a, b]`",
    "tuple_type": "a list, as in `[a, b]`",
    "set_type": "a list, as in `[a, b]`",
    "frozen_set_type": "a list, as in `[a, b]`",
    "dict_type": "a mapping, as in `{key: value}`",
    "model_type": "a mapping, as in `{key: value}`",
    "model_attributes_type": "a mapping, as in `{key: value}`",
}


def _words(model: type[BaseModel], detail: ErrorDetails, path: Path) -> tuple[str, str]:
    """What is wrong and what to do, for one of pydantic's own errors."""
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return "unknown key", _unknown_key_remedy(model, path)
    if kind == "missing":
        return "missing", f"add `{path[-1]}`{_example(model, path)}"
    if kind in _EXPECTED:
        wanted = _EXPECTED[kind]
        # Where a mapping belongs, a plain text may be a secret written in the wrong place: its kind is told, not it.
        shown = _kind_of(detail["input"]) if "mapping" in wanted else _shown(detail["input"])
        message = f"{shown} is not {wanted.partition(',')[0]}"
        if kind.startswith("model"):
            wanted = _keys_expected(model, path)
        if kind == "string_type" and _is_scalar(detail["input"]):
            wanted += " (put it in quotes)"
        example = _example(model, path)
        return message, f"write {wanted.partition(', as in')[0] if example else wanted}{example}"
    if kind in ("literal_error", "enum"):
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        choice = ", ".join(f"`{word}`" for word in known)
        return (
            f"{_shown(detail['input'])} is not one of the choices",
            f"{closest(str(detail['input']), known)}use one of {choice}",
        )
    if kind == "too_short":
        return (
            "an empty list",
            f"list at least {context.get('min_length', 1)}, or remove the key{_example(model, path)}",
        )
    if kind == "string_too_short":
        return "an empty text", f"write a value{_example(model, path)}"
    return _lower(detail["msg"]), f"change the value{_example(model, path)}"


def _is_scalar(value: object) -> bool:
    return isinstance(value, (int, float, bool))


def _kind_of(value: object) -> str:
    return "a text" if isinstance(value, str) else _shown(value)


def _shown(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case dict():
            return "a mapping"
        case list() | tuple():
            return "a list"
        case str() if len(value) > 60:
            return f"`{value[:60]}...`"
        case _:
            return f"`{value}`"


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _unknown_key_remedy(model: type[BaseModel], path: Path) -> str:
    known = sorted({key for owner in _models_at(model, path[:-1]) for key in _keys(owner)})
    if not known:
        return "remove it"
    return f"{closest(str(path[-1]), known)}known keys here: {', '.join(f'`{key}`' for key in known)}"


def _keys_expected(model: type[BaseModel], path: Path) -> str:
    known = sorted({key for owner in _models_at(model, path) for key in _keys(owner)})
    return f"a mapping with the keys {', '.join(f'`{key}`' for key in known)}" if known else "a mapping"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _example(model: type[BaseModel], path: Path) -> str:
    """ ", as in `key: example`" from the field's `examples`, and its description; "" when it has none."""
    for owner in _models_at(model, path[:-1]) if path else ():
        for name, field in owner.model_fields.items():
            if (field.alias or name) != path[-1]:
                continue
            text = f", as in `{path[-1]}: {field.examples[0]}`" if field.examples else ""
            return f"{text} ({field.description})" if field.description else text
    return ""


def _models_at(model: type[BaseModel], path: Path) -> list[type[BaseModel]]:
    """The models that may stand at `path` (several where the annotation is a union)."""
    current: list[Any] = [model]
    for part in path:
        current = [inner for annotation in current for inner in _step(annotation, part)]
    return [kind for annotation in current for kind in _unwrapped(annotation) if _is_model(kind)]


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _step(annotation: Any, part: str | int) -> Iterator[Any]:
    for kind in _unwrapped(annotation):
        if _is_model(kind):
            for name, field in kind.model_fields.items():
                if (field.alias or name) == part:
                    yield field.annotation
            continue
        arguments = get_args(kind)
        origin = get_origin(kind)
        if isinstance(part, int) and origin in (list, tuple, set, frozenset) and arguments:
            yield arguments[0]
        elif isinstance(part, str) and origin in (dict, Mapping) and len(arguments) == 2:
            yield arguments[1]


def _unwrapped(annotation: Any) -> Iterator[Any]:
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _unwrapped(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for inner in get_args(annotation):
            yield from _unwrapped(inner)
    elif origin is not Literal:
        yield annotation


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
            f"{_shown(value)} is not a duration",
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
            f"{_shown(value)} is not a size", "write a number and a unit: `512B`, `64KiB`, `16MiB` or `1GB`"
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
            f"{_shown(value)} is not a name", "use letters, digits, `.`, `_` and `-`, at most 128, no blanks"
        )
    return value


_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

Name = Annotated[str, AfterValidator(_checked_name)]
"""A name of something in a document: letters, digits, `.`, `_` and `-`, at most 128."""
