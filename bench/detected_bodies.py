"""How fast bodies over HTTP go through masks: JSON, events, tables, forms, under all detectors and under paths.

Each body comes in pieces of 32 KiB, as it does from a socket. `clean` holds nothing to find, `full` a mailbox and a
card in every record, all others a mailbox in every fiftieth. Medians of rounds, in time of the processor. Called by
`bench.detectors`.
"""

from __future__ import annotations

import csv
import io
import json
import random
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import urlencode

from policy.detectors import NAMES, Detection
from policy.http.masks import BodyDetectors
from policy.json_paths import JsonPath
from policy.masking import Mask, Redact
from proxyd.gates.http.bodies import BodyMasks, Detectors, transformer_for
from proxyd.gates.http.llm.streams import LlmStream

PIECE_BYTES = 32 * 1024
ROUNDS = 5
MEGABYTES = 3.0
# What is asked of some of them, in megabytes a second.
WANTED_MB_S = {"json clean": 50.0, "json some": 20.0, "events": 10.0, "model stream": 10.0}
SENTENCE = (
    "the gateway reads a request and judges it by policy before anything reaches the target service which answers "
    "with rows or events that are recorded masked and sent back so people can see what was done when and why"
)
WORDS = SENTENCE.split()

Record = dict[str, object]


@dataclass(frozen=True, slots=True)
class _Masks:
    json: tuple[tuple[JsonPath, Mask], ...] = ()
    detectors: Detectors | None = None


def record(chance: random.Random, values: float) -> Record:
    """One row of an API's answer. values: how likely it holds a mailbox."""
    made: Record = {
        "id": chance.getrandbits(60),
        "created": 1700000000000 + chance.getrandbits(36),
        "uuid": f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-4abc-8def-{chance.getrandbits(48):012x}",
        "amount": chance.random() * 1000,
        "tags": chance.choices(WORDS, k=4),
        "name": " ".join(chance.choices(WORDS, k=2)),
        "note": " ".join(chance.choices(WORDS, k=12)),
        "open": chance.random() < 0.5,
    }
    if chance.random() < values:
        made["contact"] = f"bob{chance.randint(1, 999)}@example.org"
    return made


def full_record(chance: random.Random, _: float) -> Record:
    made = record(chance, 1.0)
    made["card"] = "4111 1111 1111 1111"
    return made


Make = Callable[[random.Random, float], Record]


def _records(size: int, values: float, make: Make = record) -> Iterator[Record]:
    chance = random.Random(5)  # noqa: S311  the same each time
    length = 0
    while length < size:
        made = make(chance, values)
        length += len(json.dumps(made)) + 2
        yield made


def documents(size: int, values: float, make: Make = record, **written: object) -> bytes:
    return json.dumps(list(_records(size, values, make)), **written).encode()  # type: ignore[arg-type]


def lines(size: int, values: float) -> bytes:
    return b"".join(json.dumps(made).encode() + b"\n" for made in _records(size, values))


def table(size: int, values: float) -> bytes:
    out = io.StringIO()
    writer = csv.writer(out)
    columns = ("id", "created", "uuid", "amount", "name", "note", "contact")
    writer.writerow(columns)
    for made in _records(size, values):
        writer.writerow([made.get(column, "") for column in columns])
    return out.getvalue().encode()


def form(size: int, values: float) -> bytes:
    pairs: list[tuple[str, str]] = []
    for number, made in enumerate(_records(size, values)):
        pairs += [(f"rows[{number}][{name}]", str(value)) for name, value in made.items()]
    return urlencode(pairs).encode()


def deltas(size: int, values: float) -> bytes:
    """What a model's API streams: an event for each word."""
    chance = random.Random(5)  # noqa: S311
    pieces: list[bytes] = []
    length = 0
    while length < size:
        word = "bob@example.org" if chance.random() < values else chance.choice(WORDS)
        document = {
            "id": "chatcmpl-9xK2",
            "object": "chat.completion.chunk",
            "created": 1763760000,
            "model": "gpt-4o-mini",
            "choices": [{"index": 0, "delta": {"content": f" {word}"}, "finish_reason": None}],
        }
        pieces.append(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")
        length += len(pieces[-1])
    return b"".join(pieces)


def _detecting() -> _Masks:
    detection = Detection.of([(NAMES, None)])
    if detection is None:
        raise RuntimeError("no detectors")
    return _Masks(detectors=BodyDetectors(detection))


def _by_path() -> _Masks:
    paths = ("$..contact", "$..card", "$..ssn")
    return _Masks(tuple((JsonPath.parse(path), Mask("private", Redact())) for path in paths))


def _pieces(data: bytes) -> Iterable[bytes]:
    return [data[start : start + PIECE_BYTES] for start in range(0, len(data), PIECE_BYTES)]


def _through(content_type: str, masks: BodyMasks, data: bytes) -> int:
    body = transformer_for(content_type, masks)
    if body is None:
        raise RuntimeError("nothing to do")
    for piece in _pieces(data):
        body.feed(piece)
    body.finish()
    return body.counts.total()


def _through_model(masks: BodyMasks, data: bytes) -> int:
    stream = LlmStream(masks)
    for piece in _pieces(data):
        stream.feed(piece)
    stream.finish()
    return stream.counts.total()


def works(size: int) -> dict[str, tuple[bytes, Callable[[bytes], int]]]:
    """Name -> a body and what is done to it, which gives how many values were masked."""
    found, paths = _detecting(), _by_path()
    both = _Masks(paths.json, found.detectors)

    def through(content_type: str, masks: _Masks) -> Callable[[bytes], int]:
        return lambda data: _through(content_type, masks, data)

    json_type, events = "application/json", "text/event-stream"
    return {
        "json clean": (documents(size, 0.0), through(json_type, found)),
        "json some": (documents(size, 0.02), through(json_type, found)),
        "json full": (documents(size, 0.0, full_record), through(json_type, found)),
        "json indented": (documents(size, 0.02, indent=2), through(json_type, found)),
        "json lines": (lines(size, 0.02), through("application/x-ndjson", found)),
        "json by path": (documents(size, 0.02), through(json_type, paths)),
        "json by both": (documents(size, 0.02), through(json_type, both)),
        "events": (deltas(size, 0.001), through(events, found)),
        "events by path": (deltas(size, 0.001), through(events, paths)),
        "model stream": (deltas(size, 0.001), lambda data: _through_model(found, data)),
        "table": (table(size, 0.02), through("text/csv", found)),
        "form": (form(size, 0.02), through("application/x-www-form-urlencoded", found)),
    }


def measure(megabytes: float = MEGABYTES, rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """Megabytes a second by body, and how many values were masked in it."""
    measured: dict[str, dict[str, float]] = {}
    for name, (data, work) in works(int(megabytes * 1_000_000)).items():
        times: list[float] = []
        values = 0
        for _ in range(rounds):
            begin = time.process_time()
            values = work(data)
            times.append(time.process_time() - begin)
        measured[name] = {"mb_s": len(data) / statistics.median(times) / 1_000_000, "values": values}
    return measured
