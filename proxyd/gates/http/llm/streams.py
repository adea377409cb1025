"""Masks on a model's answer that comes as a stream of events.

Every event is taken apart as JSON. Pieces of a running text go through a detector with a window of its own for each
block (see `deltas`): what could be the beginning of a match is held back into the next event of the same block, and
comes out, at the latest, in an event of its own before the one that ends the block. Strings that repeat the whole text
are masked as a whole. Pieces of a tool's arguments go through the masks of JSON, so that they stay JSON: a string in
them comes out once it is complete. Token-by-token copies of the text (`logprobs`) are left out. What stays is the shape
of the stream: no event goes missing, the names stay, SDKs add up what they get.

`LlmStream` is a `Transformer` (bytes in, bytes out) made by `proxyd.gates.http.llm.gate` for answers of type
text/event-stream under masks.
"""

from __future__ import annotations

import codecs
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import msgspec

from policy.json_paths import JsonPath
from policy.masking import Mask
from protocols.errors import LimitExceeded
from protocols.http.event_stream import Event, EventLine, EventReader
from proxyd.gates.http.bodies.interfaces import BodyMasks, BodyRefused, Detectors, StreamDetector, Transformer
from proxyd.gates.http.bodies.transformers import mask_message, transformer_for
from proxyd.gates.http.llm.deltas import DROPPED, Block, Piece, ended_by, ends_choice, is_text, pieces_of

MAX_BLOCKS: Final = 512
MAX_DEPTH: Final = 100
MAX_EVENT_BYTES: Final = 1 << 20
_DONE: Final = b"[DONE]"
_HINT: Final = "Ask without `stream`, or ask for access without masks."
_ARGUMENTS: Final = frozenset({"arguments", "partial_json"})


class _JsonMasks:
    """Only the masks by path, or only the detectors, of what a policy demands."""

    __slots__ = ("detectors", "json")

    def __init__(
        self, json: Sequence[tuple[JsonPath, Mask]] = (), detectors: Detectors | None = None
    ) -> None:
        self.json = json
        self.detectors = detectors


class LlmStream:
    """One stream. Raises BodyRefused where an event is none that masks can be applied to."""

    def __init__(self, masks: BodyMasks) -> None:
        self.counts: Counter[str] = Counter()
        self._paths = _JsonMasks(json=masks.json) if masks.json else None
        self._texts = _Texts(masks.detectors, self.counts) if masks.detectors is not None else None
        self._events = EventReader(event_bytes=MAX_EVENT_BYTES)

    def feed(self, data: bytes) -> bytes:
        try:
            return b"".join([piece for event in self._events.feed(data) for piece in self._masked(event)])
        except LimitExceeded:
            raise BodyRefused("an event of the model's stream is too long to be masked", _HINT) from None

    def finish(self) -> bytes:
        """What was held back of a stream that has ended without saying so. An event without its end is dropped."""
        return b"".join(self._held())

    def _held(self) -> list[bytes]:
        return [] if self._texts is None else [_event_of(document) for document in self._texts.finish()]

    def _masked(self, event: Event) -> Iterator[bytes]:
        data = event.data
        if data is not None and data.strip() == _DONE:
            yield from self._held()
            yield event.raw
            return
        if self._texts is not None:
            event = self._texts.beside(event)
        if data is None:
            yield event.raw
            return
        if self._paths is not None:
            data = self._masked_by_path(data)
        if self._texts is None:
            yield event.with_data(data)
            return
        document = _document(data)
        yield from [_event_of(held) for held in self._texts.before(document)]
        yield event.with_data(_encoded(self._texts.take(document)))

    def _masked_by_path(self, data: bytes) -> bytes:
        if self._paths is None:
            return data
        try:
            text, found = mask_message(data.decode(), self._paths)
        except UnicodeDecodeError:
            raise BodyRefused("an event of the model's stream is not UTF-8", _HINT) from None
        self.counts.update(found)
        return text.encode()


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        raise BodyRefused("an event of the model's stream is not JSON", _HINT) from None
    if not isinstance(document, dict):
        raise BodyRefused("an event of the model's stream is not a JSON object", _HINT)
    return document


def _encoded(document: dict[str, Any]) -> bytes:
    return msgspec.json.encode(document)


def _event_of(document: dict[str, Any]) -> bytes:
    """An event of our own. Those that have a type are named by it, in both shapes."""
    kind = document.get("type")
    name = f"event: {kind}\n".encode() if isinstance(kind, str) and kind.isprintable() else b""
    return b"%sdata: %s\n\n" % (name, _encoded(document))


class _Running:
    """One block: what finds in it, and how an event looks that carries a piece of it."""

    __slots__ = ("_decoder", "_text", "is_broken", "template")

    def __init__(self, text: StreamDetector | Transformer) -> None:
        self._text = text
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.template: Callable[[str], dict[str, Any]] | None = None
        self.is_broken = False

    def feed(self, text: str) -> str:
        if self.is_broken:
            return ""
        try:
            return self._decoder.decode(self._text.feed(text.encode("utf-8", "replace")))
        except BodyRefused:
            self.is_broken = True  # arguments that are no JSON: nothing more of them goes out
            return ""

    def finish(self) -> str:
        if self.is_broken:
            return ""
        try:
            return self._decoder.decode(self._text.finish(), final=True)
        except BodyRefused:  # cut off by the model's limit: what was held back stays back
            return ""

    @property
    def counts(self) -> Counter[str]:
        return self._text.counts


class _Texts:
    """Detectors over the documents of one stream."""

    def __init__(self, detectors: Detectors, counts: Counter[str]) -> None:
        self._detectors = detectors
        self._json = _JsonMasks(detectors=detectors)
        self._counts = counts
        self._blocks: dict[Block, _Running] = {}

    def beside(self, event: Event) -> Event:
        """The lines of an event that are not its data, looked through."""
        lines = [
            line
            if line.field == b"data" or not line.value
            else EventLine(line.field, self._replaced_bytes(line.value), line.end, line.prefix)
            for line in event.lines
        ]
        return Event(tuple(lines))

    def before(self, document: dict[str, Any]) -> list[dict[str, Any]]:
        """Documents to go out before this one: the ends of blocks that it ends."""
        return self._flush(ended_by(document, tuple(self._blocks)))

    def finish(self) -> list[dict[str, Any]]:
        return self._flush(tuple(self._blocks))

    def take(self, document: dict[str, Any]) -> dict[str, Any]:
        """`document` with its texts masked; changed in place."""
        pieces = list(pieces_of(document))
        for piece in pieces:
            self._feed(document, piece)
        places = {(id(piece.holder), piece.key) for piece in pieces}
        self._mask_whole(document, places)
        return document

    def _feed(self, document: dict[str, Any], piece: Piece) -> None:
        running = self._blocks.get(piece.block)
        if running is None:
            if len(self._blocks) >= MAX_BLOCKS:
                raise BodyRefused("the model's stream has too many texts at once", _HINT)
            running = self._blocks[piece.block] = _Running(self._new(piece))
        text = running.feed(piece.text)
        if ends_choice(document, piece.block):
            text += running.finish()
            self._close(piece.block)
        else:
            running.template = _template(document, piece)
        piece.holder[piece.key] = text

    def _new(self, piece: Piece) -> StreamDetector | Transformer:
        if piece.is_json:
            masked = transformer_for("application/json", self._json)
            if masked is not None:
                return masked
        return self._detectors.stream()

    def _flush(self, blocks: Sequence[Block]) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = []
        for block in blocks:
            running = self._blocks[block]
            text = running.finish()
            if text and running.template is not None:
                held.append(running.template(text))
            self._close(block)
        return held

    def _close(self, block: Block) -> None:
        self._counts.update(self._blocks.pop(block).counts)

    # --- texts that stand whole ---

    def _mask_whole(self, document: dict[str, Any], pieces: set[tuple[int, str]]) -> None:
        stack: list[tuple[Any, int, bool]] = [(document, 0, False)]
        while stack:
            holder, depth, is_free = stack.pop()
            if depth > MAX_DEPTH:
                raise BodyRefused("an event of the model's stream is nested too deep to be masked", _HINT)
            entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
            for key, value in list(entries):
                if key == DROPPED and not is_free:
                    holder[key] = [] if isinstance(value, list) else None
                elif isinstance(value, (dict, list)):
                    stack.append((value, depth + 1, is_free or key in {"input", "arguments", "output"}))
                elif (id(holder), key) not in pieces:
                    holder[key] = self._value(key, value, is_free)

    def _value(self, key: object, value: Any, is_free: bool) -> Any:
        if isinstance(value, str):
            if not is_free and isinstance(key, str) and not is_text(key):
                return value
            if key in _ARGUMENTS:
                return self._arguments(value)
            return self._replaced(value)
        if is_free and type(value) in {int, float}:
            text = str(value)
            masked = self._replaced(text)
            return value if masked == text else masked
        return value

    def _arguments(self, text: str) -> str:
        masked = transformer_for("application/json", self._json)
        if masked is None:
            return self._replaced(text)
        try:
            done = masked.feed(text.encode("utf-8", "replace")) + masked.finish()
        except BodyRefused:
            return self._replaced(text)
        self._counts.update(masked.counts)
        return done.decode("utf-8", "replace")

    def _replaced(self, text: str) -> str:
        return self._replaced_bytes(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _replaced_bytes(self, text: bytes) -> bytes:
        found = self._detectors.stream()
        masked = found.feed(text) + found.finish()
        self._counts.update(found.counts)
        return masked


def _template(document: dict[str, Any], piece: Piece) -> Callable[[str], dict[str, Any]]:
    """What makes an event with one more piece of the same block, like the one in `document`."""
    kind, *place = piece.block
    if kind == "anthropic":
        if document.get("type") == "completion":
            head = {key: value for key, value in document.items() if key not in {"completion", "stop_reason"}}
            return lambda text: {**head, "completion": text, "stop_reason": None}
        inner = {"type": piece.holder.get("type")}
        index, key = place
        return lambda text: {
            "type": "content_block_delta",
            "index": index,
            "delta": {**inner, key: text},
        }
    if kind == "response":
        head = {key: value for key, value in document.items() if key not in {"delta", "obfuscation", DROPPED}}
        empty: dict[str, Any] = {DROPPED: []} if DROPPED in document else {}
        return lambda text: {**head, "delta": text, **empty}
    head = {key: value for key, value in document.items() if key not in {"choices", "usage", "obfuscation"}}
    choice, *field = place
    return lambda text: {**head, "choices": [{"index": choice, **_chat_piece(field, piece.key, text)}]}


def _chat_piece(field: Sequence[object], key: str, text: str) -> dict[str, Any]:
    match field:
        case ["text"]:
            return {"text": text, "logprobs": None, "finish_reason": None}
        case ["tool", number]:
            name = "function" if key == "arguments" else "custom"
            delta: dict[str, Any] = {"tool_calls": [{"index": number, name: {key: text}}]}
        case ["function_call"]:
            delta = {"function_call": {"arguments": text}}
        case [name]:
            delta = {str(name): text}
        case _:
            delta = {}
    return {"delta": delta, "finish_reason": None}
