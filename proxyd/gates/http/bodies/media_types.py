"""What a body says that it is: its media type, and what masks take it for.

Owns reading `content-type` with one reading only, and the table of types. A type is the target's word (and, where the
target lets them choose, the client's): it decides how a body is read, never that it is not looked at. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, auto

from proxyd.gates.http.bodies.interfaces import BodyRefused

_TYPE = re.compile(r"([!#$%&'*+.^_`|~0-9a-z-]{1,127})/([!#$%&'*+.^_`|~0-9a-z-]{1,127})", re.ASCII)
_PARAMETER = re.compile(
    r"""[ \t]*;[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:([!#$%&'*+.^_`|~0-9A-Za-z/:=?@-]+)|"((?:[^"\\]|\\.)*)"))?""",
    re.ASCII,
)
_ESCAPED = re.compile(r"\\(.)")


class Form(Enum):
    """How a body is read."""

    JSON = auto()
    JSON_LINES = auto()
    JSON_SEQUENCE = auto()
    EVENTS = auto()
    FORM = auto()
    MULTIPART = auto()
    CSV = auto()
    TABS = auto()
    TEXT = auto()  # may be anything that is written in characters
    MEDIA = auto()  # pictures, sound, fonts: hold no fields and no text
    DOCUMENT = auto()  # holds text, but no fields by name
    OPAQUE = auto()  # holds fields in a form that is not read here
    UNKNOWN = auto()  # has to turn out to be JSON


_EXACT = {
    "application/json": Form.JSON,
    "text/json": Form.JSON,
    "application/x-json": Form.JSON,
    "application/csp-report": Form.JSON,
    "application/reports+json": Form.JSON,
    "application/x-ndjson": Form.JSON_LINES,
    "application/ndjson": Form.JSON_LINES,
    "application/jsonl": Form.JSON_LINES,
    "application/jsonlines": Form.JSON_LINES,
    "application/json-lines": Form.JSON_LINES,
    "application/x-jsonlines": Form.JSON_LINES,
    "application/x-json-stream": Form.JSON_LINES,
    "application/stream+json": Form.JSON_LINES,
    "application/x-ldjson": Form.JSON_LINES,
    "application/json-seq": Form.JSON_SEQUENCE,
    "text/event-stream": Form.EVENTS,
    "application/x-www-form-urlencoded": Form.FORM,
    "text/csv": Form.CSV,
    "application/csv": Form.CSV,
    "text/tab-separated-values": Form.TABS,
    "application/xml": Form.TEXT,
    "application/yaml": Form.TEXT,
    "application/x-yaml": Form.TEXT,
    "application/toml": Form.TEXT,
    "application/javascript": Form.TEXT,
    "application/x-javascript": Form.TEXT,
    "application/ecmascript": Form.TEXT,
    "application/graphql": Form.TEXT,
    "application/sql": Form.TEXT,
    "application/rtf": Form.TEXT,
    "application/x-sh": Form.TEXT,
    "application/wasm": Form.MEDIA,
    "application/vnd.ms-fontobject": Form.MEDIA,
    "application/pdf": Form.DOCUMENT,
    "application/postscript": Form.TEXT,
}
_SUFFIXES = {
    "+json": Form.JSON,
    "+json-seq": Form.JSON_SEQUENCE,
    "+ndjson": Form.JSON_LINES,
    "+xml": Form.TEXT,
    "+yaml": Form.TEXT,
}
_KINDS = {
    "text": Form.TEXT,
    "multipart": Form.MULTIPART,
    "image": Form.MEDIA,
    "audio": Form.MEDIA,
    "video": Form.MEDIA,
    "font": Form.MEDIA,
}


@dataclass(frozen=True, slots=True)
class MediaType:
    """name: in lower case, "" when the body says nothing. parameters: names in lower case."""

    name: str
    parameters: Mapping[str, str]

    @property
    def form(self) -> Form:
        exact = _EXACT.get(self.name)
        if exact is not None:
            return exact
        for suffix, form in _SUFFIXES.items():
            if self.name.endswith(suffix):
                return form
        if self.name.startswith("application/grpc"):  # the text form of it too
            return Form.OPAQUE
        return _KINDS.get(self.name.partition("/")[0], Form.UNKNOWN)

    @property
    def charset(self) -> str:
        return self.parameters.get("charset", "").lower()

    @property
    def is_utf8(self) -> bool:
        return self.charset in ("", "utf-8", "utf8", "us-ascii", "ascii")


def media_type(field: str) -> MediaType:
    """The value of a `content-type` field. Raises BodyRefused for one that could be read in two ways."""
    text = field.strip(" \t")
    if not text:
        return MediaType("", {})
    name, _, _ = text.partition(";")
    name = name.strip(" \t").lower()
    if _TYPE.fullmatch(name) is None:
        raise BodyRefused("its content type cannot be read")
    position = text.find(";")
    parameters: dict[str, str] = {}
    while 0 <= position < len(text):
        found = _PARAMETER.match(text, position)
        if found is None or (found[1] is not None and found[1].lower() in parameters):
            raise BodyRefused("the parameters of its content type cannot be read")
        if found[1] is not None:
            quoted = found[3]
            parameters[found[1].lower()] = found[2] if quoted is None else _ESCAPED.sub(r"\1", quoted)
        position = found.end()
        if not text[position:].strip(" \t"):
            break
    return MediaType(name, parameters)
