"""The tools that a request offers to the model: their names, and which of them the provider runs itself. Called by
`policy.llm.reading`."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

# Types of tools that the caller runs, so that they cost nothing beyond their tokens. `None`: Anthropic's plain tool.
_OWN = frozenset(
    {None, "function", "custom", "local_shell", "apply_patch", "computer_use_preview", "computer"}
)
_SIGNIFICANT = frozenset({"custom", "function", "name", "tools", "type"})
_VERSION = re.compile(r"_20[0-9]{6}$")
_OWN_PREFIXES = ("bash_", "text_editor_", "computer_20", "memory_")


def has_other_case(given: Mapping[str, Any], known: Collection[str]) -> bool:
    """Is there a name that only the case tells from one of `known`? Some servers read it as that one, and the last of
    them counts."""
    return any(
        not (key.isascii() and key.islower()) and key not in known and key.casefold() in known
        for key in given
    )


@dataclass(frozen=True, slots=True)
class Tools:
    """faults: why names could not be seen. hosted: those that the provider runs, which cost what nobody can say
    beforehand."""

    names: tuple[str, ...] = ()
    faults: tuple[str, ...] = ()
    hosted: tuple[str, ...] = ()


def tools_of(body: Mapping[str, Any]) -> Tools:
    names: list[str] = []
    faults: list[str] = []
    hosted: list[str] = []
    for key in ("tools", "functions"):
        listed = body.get(key)
        if listed is None:
            continue
        if not isinstance(listed, list):
            faults.append(f"{key} is not a list")
            continue
        for tool in listed:
            _read(tool, names, faults, hosted)
    servers = body.get("mcp_servers")
    if servers:
        faults.append("tools of an MCP server that the provider asks itself")
        hosted.append("mcp")
    if body.get("web_search_options") is not None:
        names.append("web_search")
        hosted.append("web_search")
    return Tools(tuple(dict.fromkeys(names)), tuple(dict.fromkeys(faults)), tuple(dict.fromkeys(hosted)))


def _read(tool: object, names: list[str], faults: list[str], hosted: list[str]) -> None:
    if not isinstance(tool, Mapping):
        faults.append("a tool that is not an object")
        return
    if has_other_case(tool, _SIGNIFICANT):
        faults.append("a tool with names in another case")
    kind = tool.get("type")
    if kind is not None and not isinstance(kind, str):
        faults.append("a tool whose type is not a text")
        return
    name = tool.get("name")
    inner = tool.get(kind) if kind in {"function", "custom"} else None
    if isinstance(inner, Mapping):
        if has_other_case(inner, _SIGNIFICANT):
            faults.append("a tool with names in another case")
        inner_name = inner.get("name")
        if name is not None and name != inner_name:
            faults.append("a tool with two names")
        name = inner_name
    if kind == "namespace" and isinstance(tool.get("tools"), list):
        for each in tool["tools"]:
            _read(each, names, faults, hosted)
    is_own = kind in _OWN or (kind is not None and kind.startswith(_OWN_PREFIXES))
    if kind in {"mcp", "mcp_toolset"}:
        faults.append("tools of an MCP server that the provider asks itself")
    if kind is not None and not is_own and kind != "namespace":
        hosted.append(kind)
    is_named = isinstance(name, str) and bool(name)
    if kind in {None, "function", "custom", "namespace"}:
        if not is_named and kind != "namespace":
            faults.append("a tool without a name")
    elif kind is not None:
        names.append(_VERSION.sub("", kind))  # what it is does not depend on the name that it is given
    if isinstance(name, str) and name:
        names.append(name)
