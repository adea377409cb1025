"""pydantic's findings about a document, told as faults: with a line, in the document's words, with a remedy.

Called by `policy.located_yaml.validate` only. Reads models (their keys, examples and descriptions) to say
what may stand where something was wrong.
"""

from __future__ import annotations

import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from policy.faults import Fault, Located, Path, closest, kind_of, shown


def faults_of(model: type[BaseModel], located: Located, details: Sequence[ErrorDetails]) -> Iterator[Fault]:
    seen: set[Path] = set()
    for detail in details:
        kind = detail["type"]
        path = _path_in_data(model, located.data, detail["loc"], keep_last=kind == "missing")
        if kind in _TAG_ERRORS:
            path = (*path, _tag_key(detail))
        if kind == "refusal":
            context = detail.get("ctx", {})
            yield located.fault((*path, *context["at"]), str(context["message"]), str(context["remedy"]))
            continue
        if kind == "too_short" and _length_at(located.data, path) >= detail.get("ctx", {}).get(
            "min_length", 1
        ):
            continue  # pydantic counts the sound items only, and each of the others has a fault of its own
        if path in seen:  # the branches of a union all complain about the same value
            continue
        seen.add(path)
        message, remedy = _words(model, located.data, detail, path)
        yield located.fault(path, message, remedy)


def _length_at(data: Any, path: Path) -> int:
    for part in path:
        data = data[part]
    return len(data) if isinstance(data, (list, dict)) else 0


def _path_in_data(model: type[BaseModel], data: Any, loc: Sequence[str | int], *, keep_last: bool) -> Path:
    """pydantic's location without the parts it adds itself (union branches, "[key]")."""
    path: list[str | int] = []
    current: list[Any] = [model]
    is_chosen = False
    for index, part in enumerate(loc):
        if not is_chosen and _chooses(current, data, part):
            is_chosen = True  # the next part may be a key of the same name
            continue
        if isinstance(data, dict) and part in data:
            data = data[str(part)]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif not (keep_last and index == len(loc) - 1):
            continue
        current = [inner for annotation in current for inner in _step(annotation, part)]
        is_chosen = False
        path.append(part)
    return tuple(path)


def _chooses(annotations: Sequence[Any], data: Any, part: str | int) -> bool:
    """Is `part` not a key, but what one of `data`'s keys says of which model is meant?"""
    models = _models_of(annotations)
    return (
        len(models) > 1
        and isinstance(data, dict)
        and any(data.get(key) == part for model in models for key, words in _fixed(model) if part in words)
    )


_TAG_ERRORS = {"union_tag_invalid", "union_tag_not_found"}


def _tag_key(detail: ErrorDetails) -> str:
    """The key that tells models apart; pydantic has it in quotes."""
    return str(detail.get("ctx", {})["discriminator"]).strip("'")


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


def _words(model: type[BaseModel], data: Any, detail: ErrorDetails, path: Path) -> tuple[str, str]:
    """What is wrong and what to do, for one of pydantic's own errors."""
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(model, data, path)
    if kind in _TAG_ERRORS:
        return _unchosen(model, detail, path)
    if kind == "missing":
        return "missing", f"add `{path[-1]}`{_example(model, data, path)}"
    if kind in _EXPECTED:
        wanted = _EXPECTED[kind]
        # Where a mapping belongs, a text may be a secret in the wrong place: its kind is told, not its value.
        given = kind_of(detail["input"]) if "mapping" in wanted else shown(detail["input"])
        message = f"{given} is not {wanted.partition(',')[0]}"
        if _models_at(model, data, path):
            wanted = _keys_expected(model, data, path)
        if kind == "string_type" and _is_scalar(detail["input"]):
            wanted += " (put it in quotes)"
        example = _example(model, data, path)
        return message, f"write {wanted.partition(', as in')[0] if example else wanted}{example}"
    if kind in ("literal_error", "enum"):
        given = detail["input"]
        expected = str(context.get("expected", ""))
        known = re.findall(r"'([^']*)'", expected)
        if _is_scalar(given) and str(given) in known:
            return f"{shown(given)} is a number here, not text", f'write it in quotes, as in "{given}"'
        # Choices that are no text have no quotes around them.
        choice = ", ".join(f"`{word}`" for word in known or expected.split(" or "))
        return f"{shown(given)} is not one of the choices", f"{closest(str(given), known)}use one of {choice}"
    if kind == "too_short":
        return (
            "an empty list",
            f"list at least {context.get('min_length', 1)}, or remove the key{_example(model, data, path)}",
        )
    if kind == "greater_than_equal":
        return (
            f"{shown(detail['input'])} is too small",
            f"write {context.get('ge')} or more{_example(model, data, path)}",
        )
    if kind == "less_than_equal":
        return (
            f"{shown(detail['input'])} is too large",
            f"write {context.get('le')} or less{_example(model, data, path)}",
        )
    if kind == "string_too_short":
        return "an empty text", f"write a value{_example(model, data, path)}"
    return _lower(detail["msg"]), f"change the value{_example(model, data, path)}"


def _is_scalar(value: object) -> bool:
    return isinstance(value, (int, float, bool))


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _unknown_key(model: type[BaseModel], data: Any, path: Path) -> tuple[str, str]:
    owners = _models_at(model, data, path[:-1])
    known = sorted({key for owner in owners for key in _keys(owner)})
    listed = f"known keys here: {', '.join(f'`{key}`' for key in known)}"
    elsewhere = [
        f"`{key}: {words[0]}`"
        for other in _models_at(model, None, path[:-1])
        if other not in owners and path[-1] in set(_keys(other))
        for key, words in _fixed(other)
    ]
    if elsewhere:
        ours = " and ".join(f"`{key}: {words[0]}`" for owner in owners for key, words in _fixed(owner))
        verb = "has" if len(elsewhere) == 1 else "have"
        return f"not a key of {ours}", f"only {' and '.join(elsewhere)} {verb} it: remove it; {listed}"
    if not known:
        return "unknown key", "remove it"
    if str(path[-1]).isdigit():
        return "unknown key", f"numbers have a point and no comma, as `2.50`; {listed}"
    return "unknown key", f"{closest(str(path[-1]), known)}{listed}"


def _unchosen(model: type[BaseModel], detail: ErrorDetails, path: Path) -> tuple[str, str]:
    """The key that says which of several models is meant is missing, or says something else."""
    models = _models_at(model, None, path[:-1])
    known = [word for owner in models for key, words in _fixed(owner) if key == path[-1] for word in words]
    choice = ", ".join(f"`{word}`" for word in known)
    given = detail["input"].get(path[-1]) if isinstance(detail["input"], dict) else None
    if given is None:
        return "missing", f"add `{path[-1]}`, one of {choice}"
    return f"{shown(given)} is not one of the choices", f"{closest(str(given), known)}use one of {choice}"


def _keys_expected(model: type[BaseModel], data: Any, path: Path) -> str:
    known = sorted({key for owner in _models_at(model, data, path) for key in _keys(owner)})
    return f"a mapping with the keys {', '.join(f'`{key}`' for key in known)}" if known else "a mapping"


def _keys(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _fixed(model: type[BaseModel]) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The keys that a model is told by (a Literal without a default), each with the words it may have."""
    for name, field in model.model_fields.items():
        if get_origin(field.annotation) is Literal and field.is_required():
            yield field.alias or name, get_args(field.annotation)


def _example(model: type[BaseModel], data: Any, path: Path) -> str:
    """ ", as in `key: example`" from the field's `examples`, and its description; "" when it has none."""
    for owner in _models_at(model, data, path[:-1]) if path else ():
        for name, field in owner.model_fields.items():
            if (field.alias or name) != path[-1]:
                continue
            text = f", as in `{path[-1]}: {field.examples[0]}`" if field.examples else ""
            return f"{text} ({field.description})" if field.description else text
    return ""


def _models_at(model: type[BaseModel], data: Any, path: Path) -> list[type[BaseModel]]:
    """The models that may stand at `path`: several where the annotation is a union and `data` does not choose."""
    current: list[Any] = [model]
    for part in path:
        current = [inner for annotation in _chosen(current, data) for inner in _step(annotation, part)]
        data = _inside(data, part)
    return _models_of(_chosen(current, data))


def _inside(data: Any, part: str | int) -> Any:
    if isinstance(data, dict):
        return data.get(part)
    if isinstance(data, list) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


def _chosen(annotations: Sequence[Any], data: Any) -> Sequence[Any]:
    """Of several models those that `data` says it is; all of them when it says nothing that is known."""
    models = _models_of(annotations)
    if len(models) < 2 or not isinstance(data, dict):
        return annotations
    fitting = [model for model in models if all(data.get(key) in words for key, words in _fixed(model))]
    return fitting or annotations


def _models_of(annotations: Sequence[Any]) -> list[type[BaseModel]]:
    return [kind for annotation in annotations for kind in _unwrapped(annotation) if _is_model(kind)]


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
