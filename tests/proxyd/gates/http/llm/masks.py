"""Masks as a policy would demand them, and streams as the stand-in for a model gives them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from policy.detectors import Detection
from policy.http.masks import BodyDetectors
from policy.json_paths import JsonPath
from policy.masking import Mask, Method, Redact
from proxyd.gates.http.bodies.interfaces import BodyMasks, Detectors

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Masks:
    json: tuple[tuple[JsonPath, Mask], ...] = ()
    detectors: Detectors | None = None


def masks(*detect: str, paths: Iterable[str] = (), method: Method | None = None) -> BodyMasks:
    mask = Mask("fields", method or Redact())
    detection = Detection.of([(detect, None)])
    detectors = None if detection is None else BodyDetectors(detection)
    return Masks(tuple((JsonPath.parse(path), mask) for path in paths), detectors)


def events(documents: Iterable[str | Document]) -> bytes:
    """As they go over the wire: OpenAI's chat without names, the others named by their type."""
    lines = [
        f"data: {each}\n\n"
        if isinstance(each, str)
        else f"event: {each['type']}\ndata: {json.dumps(each)}\n\n"
        for each in documents
    ]
    return "".join(lines).encode()


def documents(data: bytes) -> list[tuple[str, Any]]:
    """Name and document of each event; the text itself where it is no JSON."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        name, text = "", ""
        for line in block.split("\n"):
            field, _, value = line.partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                text = value
        found.append((name, json.loads(text) if text.startswith("{") else text))
    return found
