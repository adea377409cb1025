"""How fast detectors look through text: all of them at once, whole and as a stream.

    .venv/bin/python -m bench.detectors [--json] [--megabytes 10]

Beside these, whole bodies over HTTP (`bench.detected_bodies`).

Three texts in equal parts: log lines (times, ids, hexadecimal numbers, an address in every fiftieth line), JSON lines
(long numbers, times, uuids, a mailbox in every fiftieth), and prose (a telephone number and an IBAN in every hundredth
line). Best of several runs, in time of the processor.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Callable

from bench import detected_bodies
from policy.detectors import NAMES, DetectorSet

TARGET_MB_S = 50.0
TRIES = 3
CHUNK_BYTES = 32 * 1024
SENTENCE = (
    "the gateway reads a request and judges it by policy before anything reaches the target service which answers "
    "with rows or events that are recorded masked and sent back so people can see what was done when and why under "
    "load error warning retry timeout connection closed user session started finished upstream pool worker thread"
)
WORDS = SENTENCE.split()


def log_line(chance: random.Random) -> str:
    stamp = f"2026-11-{chance.randint(1, 28):02} {chance.randint(0, 23):02}:{chance.randint(0, 59):02}:07,123"
    ids = f"[worker-{chance.randint(1, 64)}] req={chance.getrandbits(128):032x} dur_ms={chance.randint(1, 9000)}"
    line = f"{stamp} INFO {ids} {' '.join(chance.choices(WORDS, k=chance.randint(5, 14)))}"
    if chance.random() < 0.02:
        line += f" from 10.{chance.randint(0, 255)}.{chance.randint(0, 255)}.7:443"
    elif chance.random() < 0.01:
        line += f" user alice.smith{chance.randint(1, 999)}@example.com"
    return line


def json_line(chance: random.Random) -> str:
    record: dict[str, object] = {
        "id": chance.getrandbits(60),
        "created": 1700000000000 + chance.getrandbits(36),
        "uuid": f"{chance.getrandbits(32):08x}-{chance.getrandbits(16):04x}-4abc-8def-{chance.getrandbits(48):012x}",
        "amount": chance.random() * 1000,
        "tags": chance.choices(WORDS, k=4),
        "note": " ".join(chance.choices(WORDS, k=12)),
    }
    if chance.random() < 0.02:
        record["contact"] = "bob@example.org"
    return json.dumps(record)


def prose_line(chance: random.Random) -> str:
    line = " ".join(chance.choices(WORDS, k=14)).capitalize() + "."
    if chance.random() < 0.01:
        line += " Call +1 212 555 0187 or pay to DE89 3704 0044 0532 0130 00."
    return line


def text(line: Callable[[random.Random], str], size: int) -> bytes:
    chance = random.Random(5)  # noqa: S311  the same text each time
    lines: list[str] = []
    length = 0
    while length < size:
        lines.append(line(chance))
        length += len(lines[-1]) + 1
    return ("\n".join(lines) + "\n").encode()


def streamed(detectors: DetectorSet, data: bytes) -> int:
    stream = detectors.stream()
    for start in range(0, len(data), CHUNK_BYTES):
        stream.feed(data[start : start + CHUNK_BYTES])
    stream.finish()
    return stream.counts.total()


def measure(megabytes: float = 10.0) -> dict[str, dict[str, float]]:
    """Megabytes a second by text: `whole` and `stream`, and how many values were found."""
    detectors = DetectorSet.of(NAMES)
    size = int(megabytes * 1_000_000 / 3)
    texts = {"logs": text(log_line, size), "json": text(json_line, size), "prose": text(prose_line, size)}
    texts["all"] = b"".join(texts.values())
    found: dict[str, dict[str, float]] = {}
    for name, data in texts.items():
        whole, values = _rate(lambda data=data: detectors.replace(data)[1].total(), len(data))  # type: ignore[misc]
        stream, others = _rate(lambda data=data: streamed(detectors, data), len(data))  # type: ignore[misc]
        if values != others:
            raise RuntimeError(f"{name}: {values} values in the text and {others} in the stream")
        found[name] = {"whole": whole, "stream": stream, "values": values}
    return found


def _rate(work: Callable[[], int], size: int) -> tuple[float, int]:
    best, result = float("inf"), 0
    for _ in range(TRIES):
        begin = time.process_time()
        result = work()
        best = min(best, time.process_time() - begin)
    return size / best / 1_000_000, result


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.detectors", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--megabytes", type=float, default=10.0)
    options = parser.parse_args()
    found = measure(options.megabytes)
    bodies = detected_bodies.measure(min(options.megabytes, detected_bodies.MEGABYTES))
    if options.json:
        print(json.dumps({**found, "bodies": bodies}, indent=2))
    else:
        for name, numbers in found.items():
            print(
                f"{name:6} {numbers['whole']:6.0f} MB/s whole, {numbers['stream']:6.0f} MB/s as a stream, "
                f"{numbers['values']:.0f} values"
            )
        for name, numbers in bodies.items():
            print(f"{name:15} {numbers['mb_s']:6.1f} MB/s, {numbers['values']:.0f} values")
    are_quick = all(bodies[name]["mb_s"] >= wanted for name, wanted in detected_bodies.WANTED_MB_S.items())
    return 0 if are_quick and min(found["all"]["whole"], found["all"]["stream"]) >= TARGET_MB_S else 1


if __name__ == "__main__":
    sys.exit(main())
