"""A strict reader of asciicasts, versions 2 and 3, by docs.asciinema.org/manual/asciicast/v2/ and /v3/."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_V2_OPTIONAL = {"timestamp": int, "duration": float, "idle_time_limit": float, "command": str, "title": str}
_V3_OPTIONAL = {"timestamp": int, "idle_time_limit": float, "command": str, "title": str}
_CODES = {2: {"o", "i", "m", "r"}, 3: {"o", "i", "m", "r", "x"}}
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f]")


class Moment(NamedTuple):
    at_s: float
    code: str
    data: str


class Cast(NamedTuple):
    header: dict[str, object]
    moments: list[Moment]

    def output(self) -> str:
        return "".join(moment.data for moment in self.moments if moment.code == "o")


def read_cast(data: bytes) -> Cast:
    """Header and events, times from the beginning. Raises AssertionError for anything that the format has not."""
    text = data.decode("utf-8")
    assert text.endswith("\n")
    first, *rest = text.removesuffix("\n").split("\n")
    assert not _CONTROLS.search(text.replace("\n", "")), "what cannot be printed is escaped"
    header = json.loads(first)
    version = header["version"]
    optional = _check_size(header)
    for key, kind in optional.items():
        assert isinstance(header.get(key, kind()), kind | int if kind is float else kind), key
    environment = header.get("env", {})
    assert all(isinstance(one, str) for pair in environment.items() for one in pair)
    moments = []
    at_s = 0.0
    for line in rest:
        event = json.loads(line)
        assert isinstance(event, list)
        time_s, code, value = event
        assert isinstance(time_s, float)
        assert time_s >= 0
        assert code in _CODES[version]
        assert isinstance(value, str)
        if code == "r":
            assert re.fullmatch("[1-9][0-9]*x[1-9][0-9]*", value)
        if code == "x":
            assert re.fullmatch("[0-9]+", value)
            assert line is rest[-1]
        if version == 3:
            at_s += time_s
        else:
            assert time_s >= at_s, "the order of time"
            at_s = time_s
        moments.append(Moment(round(at_s, 6), code, value))
    return Cast(header, moments)


def _check_size(header: dict[str, object]) -> dict[str, type]:
    """The required attributes; the optional ones are returned, and there are no others."""
    if header["version"] == 2:
        assert header.keys() <= {"version", "width", "height", "env", "theme", *_V2_OPTIONAL}
        sizes = [header["width"], header["height"]]
        optional = _V2_OPTIONAL
    else:
        assert header["version"] == 3
        assert header.keys() <= {"version", "term", "env", "tags", *_V3_OPTIONAL}
        term = header["term"]
        assert isinstance(term, dict)
        assert term.keys() <= {"cols", "rows", "type", "version", "theme"}
        assert isinstance(term.get("type", ""), str)
        sizes = [term["cols"], term["rows"]]
        optional = _V3_OPTIONAL
    assert all(isinstance(size, int) and size > 0 for size in sizes)
    return dict(optional)
