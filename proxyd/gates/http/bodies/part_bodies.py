"""Multipart bodies under masks: each part by its name where it is a field, and by its type where it is a file.

A field is masked as a field of a form; a part on a masked name is masked whole, whatever its type says. Other parts go
through the transformer of their type, as a body of their own would. Called by `transformers`, which it is given to make
them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

from policy.masking import Mask, MaskingError
from protocols.errors import RemoteProtocolError
from protocols.http.forms import readings
from protocols.http.multipart import PartContent, PartEnded, PartHead, PartReader
from proxyd.gates.http.bodies.interfaces import BodyRefused, Transformer
from proxyd.gates.http.bodies.media_types import MediaType, media_type
from proxyd.gates.http.bodies.plan import Plan, masked_field

_PLAIN_ENCODINGS = ("", "7bit", "8bit", "binary")

MakeTransformer: TypeAlias = Callable[[MediaType], Transformer | None]


class PartsBody:
    """A multipart body. make: the transformer of a part of a type; None where nothing concerns it."""

    def __init__(self, plan: Plan, media: MediaType, make: MakeTransformer) -> None:
        """Raises BodyRefused."""
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._make = make
        self._is_form = media.name == "multipart/form-data"
        self._parts = 0
        self._part: Transformer | None = None
        self._out: list[bytes] = []
        try:
            self._reader = PartReader(media.parameters.get("boundary", ""))
        except RemoteProtocolError as fault:
            raise BodyRefused(f"it is {fault.message}") from fault

    def feed(self, data: bytes) -> bytes:
        try:
            for event in self._reader.feed(data):
                match event:
                    case PartHead():
                        self._begin(event)
                    case PartContent(content):
                        self._out.append(content if self._part is None else self._part.feed(content))
                    case PartEnded():
                        self._end(event)
        except RemoteProtocolError as fault:
            raise BodyRefused(f"it is {fault.message}") from fault
        out = b"".join(self._out)
        self._out.clear()
        return out

    def finish(self) -> bytes:
        try:
            self._reader.finish()
        except RemoteProtocolError as fault:
            raise BodyRefused(f"it is {fault.message}") from fault
        return b""

    def _begin(self, head: PartHead) -> None:
        if not self._parts:
            self._out.append(self._reader.start)
        self._parts += 1
        if self._parts > self._plan.limits.parts:
            raise BodyRefused(f"it has more than {self._plan.limits.parts} parts")
        self._out.append(self._detected_head(head))
        self._part = self._transformer(head)

    def _detected_head(self, head: PartHead) -> bytes:
        """Names of files are text too."""
        others = [value for name, value in head.fields.items() if name != "content-disposition"]
        if any(self._plan.keys_masked(value) for value in [*others, *head.disposition[1].values()]):
            raise BodyRefused("it has a part whose head names a field that is masked")
        text = head.raw.decode()
        shown = self._plan.detected(text, self.counts)
        return head.raw if shown == text else shown.encode()

    def _end(self, ended: PartEnded) -> None:
        part, self._part = self._part, None
        if part is not None:
            self._out.append(part.finish())
            self.counts.update(part.counts)
        self._out.append(self._reader.end if ended is PartEnded.LAST else self._reader.between)

    def _transformer(self, head: PartHead) -> Transformer | None:
        encoding = head.fields.get("content-transfer-encoding", "").lower()
        if encoding not in _PLAIN_ENCODINGS or "content-encoding" in head.fields:
            raise BodyRefused("it has a part that is encoded")
        kind, parameters = head.disposition
        name = parameters.get("name", "")
        if self._is_form and (
            kind != "form-data" or "name" not in parameters or not self._plan.is_name(name)
        ):
            raise BodyRefused("it is a form with a part that has no name")
        media = media_type(head.fields.get("content-type", ""))
        mask = self._plan.field_mask(readings(name), name) if name else None
        if mask is not None:
            return _FieldBody(self._plan, name, mask)
        if "filename" not in parameters and self._is_form and media.name in ("", "text/plain"):
            if not media.is_utf8:
                raise BodyRefused("it has a field that is not UTF-8")
            return _FieldBody(self._plan, name, None)
        return self._make(media)


class _FieldBody:
    """The content of a part that is one value."""

    def __init__(self, plan: Plan, name: str, mask: Mask | None) -> None:
        self.counts: Counter[str] = Counter()
        self._plan = plan
        self._name = name
        self._mask = mask
        self._held: list[bytes] = []
        self._held_bytes = 0

    def feed(self, data: bytes) -> bytes:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > self._plan.limits.held_bytes:
            raise BodyRefused(f"it has a field longer than {self._plan.limits.held_bytes} bytes")
        return b""

    def finish(self) -> bytes:
        raw = b"".join(self._held)
        try:
            if self._mask is not None:
                return masked_field(self._mask, raw.decode("utf-8", "replace"), self.counts).encode()
            text = raw.decode()
            masked = self._plan.open_field(readings(self._name), text, self.counts, self._name)
        except UnicodeDecodeError:
            raise BodyRefused("it has a field that is not UTF-8") from None
        except (RemoteProtocolError, MaskingError) as fault:
            raise BodyRefused("it has a field that cannot be masked") from fault
        return raw if masked == text else masked.encode()
