"""Masks on a model's answer that comes as a stream of events.

Every event is taken apart as JSON. Pieces of a running text go, block by block (see `deltas`), through a window of
their own (see `running`): what could be the beginning of a match is held back into the next event of the same block,
and comes out, at the latest, in an event of its own before the one that ends the block. Strings that repeat the whole
text are masked as a whole. Masks by path are put on each event as if it were a body, the pieces aside. Token-by-token
copies of the text (`logprobs`) are left out. What stays is the shape of the stream: no event goes missing, the names
stay, SDKs add up what they get.

`LlmStream` is a `Transformer` (bytes in, bytes out) made by `proxyd.gates.http.llm.gate` for answers of type
text/event-stream under masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

import msgspec

from protocols.errors import LimitExceeded
from protocols.http.event_stream import Event, EventLine, EventReader
from proxyd.gates.http.bodies.interfaces import BodyMasks, BodyRefused
from proxyd.gates.http.bodies.transformers import mask_message
from proxyd.gates.http.llm.deltas import DROPPED, Block, Piece, ended_by, ends_choice, is_text, pieces_of
from proxyd.gates.http.llm.repeated import RepeatedEvent
from proxyd.gates.http.llm.running import REFUSED_HINT, ChosenMasks, Running, masked_document

MAX_EVENT_BYTES: Final = 1 << 20
MAX_BLOCKS: Final = 512
MAX_DEPTH: Final = 100
_DONE: Final = b"[DONE]"
_END: Final = b"\n\n"
_STAND_IN: Final = "a piece of a text"
_ARGUMENTS: Final = frozenset({"arguments", "partial_json"})


class LlmStream:
    """One stream. Raises BodyRefused where an event is none that masks can be applied to."""

    def __init__(self, masks: BodyMasks) -> None:
        self.counts: Counter[str] = Counter()
        self._paths = ChosenMasks(json=masks.json) if masks.json else None
        self._texts = _Texts(masks, self.counts)
        self._events = EventReader(event_bytes=MAX_EVENT_BYTES)
        self._repeated: RepeatedEvent | None = None
        self._last_block: Block | None = None

    def feed(self, data: bytes) -> bytes:
        out: list[bytes] = []
        position = 0
        try:
            while position < len(data):
                position = self._pass_repeated(data, position, out)
                end = data.find(_END, position) + len(_END)
                end = len(data) if end < len(_END) else end
                for event in self._events.feed(data[position:end]):
                    out += self._masked(event)
                position = end
        except LimitExceeded:
            raise BodyRefused(
                "an event of the model's stream is too long to be masked", REFUSED_HINT
            ) from None
        return b"".join(out)

    def _pass_repeated(self, data: bytes, position: int, out: list[bytes]) -> int:
        """Deal with events that are like the last one. Where they end."""
        repeated = self._repeated
        if repeated is None or not self._events.is_between:
            return position
        while (found := repeated.at(data, position)) is not None:
            text, varying, position = found
            out.append(repeated.with_text(self._texts.go_on(repeated.block, text), varying))
        return position

    def finish(self) -> bytes:
        """What was held back of a stream that has ended without saying so. An event without its end is dropped."""
        return b"".join(self._held())

    def _held(self) -> list[bytes]:
        return [_event_of(document) for document in self._texts.finish()]

    def _masked(self, event: Event) -> Iterator[bytes]:
        self._repeated = None
        data = event.data
        if data is not None and data.strip() == _DONE:
            yield from self._held()
            yield event.raw
            return
        event = self._texts.beside(event)
        if data is None:
            yield event.raw
            return
        document = _document(data)
        pieces: Iterable[Piece] = pieces_of(document)
        if self._paths is not None:
            document, pieces = self._masked_by_path(self._paths, document, list(pieces))
        yield from [_event_of(held) for held in self._texts.before(document)]
        pieces = list(pieces)
        masked = self._texts.take(document, pieces)
        shown = event.with_data(msgspec.json.encode(masked))
        yield shown
        self._learn(event, shown, pieces, masked)

    def _learn(self, event: Event, shown: bytes, pieces: Sequence[Piece], masked: dict[str, Any]) -> None:
        """Two events of one text, one after the other, and the second tells what the next may look like."""
        block = pieces[0].block if len(pieces) == 1 else None
        before, self._last_block = self._last_block, block
        if block is None or block != before or not self._texts.is_open(block) or event.data is None:
            return
        piece = pieces[0]
        original = _document(event.data)
        kept = piece.holder[piece.key]
        for other in pieces_of(original):
            piece.holder[piece.key] = other.text
        if original == masked:
            self._repeated = RepeatedEvent.like(event.raw, shown, block, piece.key)
        piece.holder[piece.key] = kept

    def _masked_by_path(
        self, paths: BodyMasks, document: dict[str, Any], pieces: list[Piece]
    ) -> tuple[dict[str, Any], list[Piece]]:
        """The document with its masks, and those of its pieces that none of them is about.

        A piece may look like anything, so it is put aside meanwhile; one that a mask is about is left empty.
        """
        texts: dict[Block, list[str]] = {}
        for piece in pieces:
            texts.setdefault(piece.block, []).append(piece.text)
            piece.holder[piece.key] = _STAND_IN
        text, found = mask_message(msgspec.json.encode(document).decode(), paths)
        self.counts.update(found)
        masked = _document(text.encode())
        kept: list[Piece] = []
        for piece in pieces_of(masked):
            if piece.text == _STAND_IN and texts.get(piece.block):
                piece.holder[piece.key] = texts[piece.block].pop(0)
                kept.append(piece)
            else:
                piece.holder[piece.key] = ""
        return masked, kept


def _document(text: bytes) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise BodyRefused("an event of the model's stream is not JSON", REFUSED_HINT) from None
    if not isinstance(document, dict):
        raise BodyRefused("an event of the model's stream is not a JSON object", REFUSED_HINT)
    return document


def _event_of(document: dict[str, Any]) -> bytes:
    """An event of our own. Those that have a type are named by it, in both shapes."""
    kind = document.get("type")
    name = f"event: {kind}\n".encode() if isinstance(kind, str) and kind.isprintable() else b""
    return b"%sdata: %s\n\n" % (name, msgspec.json.encode(document))


class _Open:
    """A block under way: its text, and what makes an event that carries a piece of it."""

    __slots__ = ("running", "template")

    def __init__(self, running: Running) -> None:
        self.running = running
        self.template: Callable[[str], dict[str, Any]] | None = None


class _Texts:
    """The texts of one stream: those under way, and those that stand whole in one document."""

    def __init__(self, masks: BodyMasks, counts: Counter[str]) -> None:
        self._masks = masks
        self._detectors = masks.detectors
        self._whole = ChosenMasks(detectors=masks.detectors)
        self._counts = counts
        self._blocks: dict[Block, _Open] = {}

    def beside(self, event: Event) -> Event:
        """The lines of an event that are not its data, looked through."""
        if self._detectors is None:
            return event
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

    def take(self, document: dict[str, Any], pieces: Sequence[Piece]) -> dict[str, Any]:
        """`document` with its texts masked; changed in place."""
        for piece in pieces:
            self._feed(document, piece)
        self._mask_whole(document, {(id(piece.holder), piece.key) for piece in pieces})
        return document

    def _feed(self, document: dict[str, Any], piece: Piece) -> None:
        block = self._blocks.get(piece.block)
        if block is None:
            if len(self._blocks) >= MAX_BLOCKS:
                raise BodyRefused("the model's stream has too many texts at once", REFUSED_HINT)
            block = self._blocks[piece.block] = _Open(Running(self._masks, is_json=piece.is_json))
        text = block.running.feed(piece.text)
        if ends_choice(document, piece.block):
            text += block.running.finish()
            self._close(piece.block)
        else:
            block.template = _template(document, piece)
        piece.holder[piece.key] = text

    def is_open(self, block: Block) -> bool:
        return block in self._blocks

    def go_on(self, block: Block, text: str) -> str:
        """One more piece of a text under way."""
        return self._blocks[block].running.feed(text)

    def _flush(self, blocks: Sequence[Block]) -> list[dict[str, Any]]:
        held: list[dict[str, Any]] = []
        for name in blocks:
            block = self._blocks[name]
            text = block.running.finish()
            if text and block.template is not None:
                held.append(block.template(text))
            self._close(name)
        return held

    def _close(self, block: Block) -> None:
        self._counts.update(self._blocks.pop(block).running.counts)

    # --- texts that stand whole ---

    def _mask_whole(self, document: dict[str, Any], pieces: set[tuple[int, str]]) -> None:
        stack: list[tuple[Any, int, bool]] = [(document, 0, False)]
        while stack:
            holder, depth, is_free = stack.pop()
            if depth > MAX_DEPTH:
                raise BodyRefused(
                    "an event of the model's stream is nested too deep to be masked", REFUSED_HINT
                )
            entries = holder.items() if isinstance(holder, dict) else enumerate(holder)
            for key, value in list(entries):
                if key == DROPPED and not is_free:
                    holder[key] = [] if isinstance(value, list) else None
                elif isinstance(value, (dict, list)):
                    stack.append((value, depth + 1, is_free or key in {"input", "arguments", "output"}))
                elif self._detectors is not None and (id(holder), key) not in pieces:
                    holder[key] = self._value(key, value, is_free)

    def _value(self, key: object, value: Any, is_free: bool) -> Any:
        if isinstance(value, str):
            if not is_free and isinstance(key, str) and not is_text(key):
                return value
            return self._arguments(value) if key in _ARGUMENTS else self._replaced(value)
        if is_free and type(value) in {int, float}:
            text = str(value)
            masked = self._replaced(text)
            return value if masked == text else masked
        return value

    def _arguments(self, text: str) -> str:
        masked = masked_document(text, self._whole, self._counts)
        return self._replaced(text) if masked is None else masked

    def _replaced(self, text: str) -> str:
        return self._replaced_bytes(text.encode("utf-8", "replace")).decode("utf-8", "replace")

    def _replaced_bytes(self, text: bytes) -> bytes:
        if self._detectors is None:
            return text
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
