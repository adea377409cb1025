"""Which keys of two configurations differ, by the names that people write. Pure. Used by the daemon's reload."""

from __future__ import annotations

from collections.abc import Iterator

from policy.located_yaml import Section


def differing_keys(before: Section, after: Section, path: str = "") -> Iterator[str]:
    """`metrics.address`, `listeners.web.limits.connections`, ... A part that is new or gone stands for all in it."""
    if type(before) is not type(after):
        yield path
        return
    for name, field in type(before).model_fields.items():
        key = f"{path}.{field.alias or name}".removeprefix(".")
        yield from _differing(getattr(before, name), getattr(after, name), key)


def _differing(before: object, after: object, key: str) -> Iterator[str]:
    if before == after:
        return
    if isinstance(before, Section) and isinstance(after, Section):
        yield from differing_keys(before, after, key)
    elif _are_named(before) and _are_named(after):
        yield from _differing_parts(_by_name(before), _by_name(after), key)
    else:
        yield key


def _are_named(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(one, Section) and hasattr(one, "name") for one in value
    )


def _by_name(value: object) -> dict[str, Section]:
    parts = value if isinstance(value, tuple) else ()
    return {str(part.name): part for part in parts}


def _differing_parts(before: dict[str, Section], after: dict[str, Section], key: str) -> Iterator[str]:
    for name in dict.fromkeys((*before, *after)):
        yield from _differing(before.get(name), after.get(name), f"{key}.{name}")
