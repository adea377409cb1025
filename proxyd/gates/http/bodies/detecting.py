"""Detectors over the values of a body: each by itself, and behind its name where that tells what it is.

Owns how many values are looked through at once (each as a line of its own, because patterns may say where a value
begins and ends) and how a part of a JSON document is put together again. Called by the plan of a body and by tables.
"""

from __future__ import annotations

import re
from collections import Counter

from policy.json_masking import json_text
from protocols.http.json_runs import string_text
from proxyd.gates.http.bodies.interfaces import Detectors

_SHORTEST = (
    7  # characters of a number, or of a value that its name makes one; below that there is nothing to find
)
_LONGEST_NAMED = 4096

# Names behind which detectors take for a value what they would not take for one alone (nine digits behind `ssn`).
_telling = re.compile(
    r"ssn|social|phone|tel|mobile|cell|fax|whatsapp|secret|key|token|pass|pwd|account|sas|sig|credential|auth|client"
    r"|session|iban|card|api",
    re.IGNORECASE,
)
_BODY = r'[^"\\]*+(?:\\.[^"\\]*)*+'
_numbers = re.compile(r"-?[0-9][-+0-9.eE]{6,}+")
_looked_at = re.compile(
    rf'("{_BODY}"|{_numbers.pattern})'
)  # of a run: its strings, and numbers worth looking at


def tells(name: str) -> bool:
    """Does a name say what its value is?"""
    return _telling.search(name) is not None


class ValueDetection:
    def __init__(self, detectors: Detectors) -> None:
        self._detectors = detectors

    def replaced(self, text: str, counts: Counter[str], name: str = "") -> str:
        """`text` with what is found in it replaced. name: of the value that it is, "" for none."""
        replaced, found = self._detectors.replace(text)
        if not found and name and _SHORTEST <= len(text) <= _LONGEST_NAMED and tells(name):
            beside = f"{name}: "
            line, found = self._detectors.replace(beside + text)
            if not line.startswith(beside):  # it is the name that something was found in
                return text
            replaced = line[len(beside) :]
        counts.update(found)
        return replaced if found else text

    def token(self, text: str, counts: Counter[str], name: str) -> bytes | None:
        """A string of JSON; None when it stays."""
        replaced = self.replaced(text, counts, name)
        return None if replaced == text else json_text(replaced).encode()

    def number(self, text: str, counts: Counter[str], name: str) -> bytes | None:
        """A number of JSON, which becomes a string; None when it stays."""
        return self.token(text, counts, name) if len(text) >= _SHORTEST else None

    def all_replaced(self, texts: list[str], counts: Counter[str]) -> list[str] | None:
        """Many values at once; None when something goes over the end of one, so that each has to be looked at alone."""
        lines = "\n".join(texts)
        replaced, found = self._detectors.replace(lines)
        if not found:
            return texts
        becomes = replaced.split("\n")
        if len(becomes) != len(texts) or lines.count("\n") != len(texts) - 1:
            return None
        counts.update(found)
        return becomes

    def cleaned(self, run: bytes, counts: Counter[str]) -> bytes | None:
        """What becomes of a run of a document; None where it holds a value that has to be looked at alone."""
        text = run.decode()
        if "\\" not in text and self._is_clean(text):
            return run
        parts = _looked_at.split(text)  # what is between, and what is looked at, by turns
        tokens = parts[1::2]
        if "\\" in text:
            values = [string_text(token.encode()) if token[0] == '"' else token for token in tokens]
        else:
            values = [token[1:-1] if token[0] == '"' else token for token in tokens]
        found: Counter[str] = Counter()
        becomes = self.all_replaced(values, found)
        if becomes is None:
            return None
        becomes = list(becomes)
        for number in range(1, len(values)):
            if (
                parts[2 * number].strip() == ":"
                and becomes[number] == values[number]
                and tells(values[number - 1])
            ):
                becomes[number] = self.replaced(values[number], found, values[number - 1])
        for number, (value, new) in enumerate(zip(values, becomes, strict=True)):
            if value != new:
                parts[2 * number + 1] = json_text(new)
        counts.update(found)
        return "".join(parts).encode() if found else run

    def _is_clean(self, text: str) -> bool:
        """Is there nothing to find in a run? Looked at as it is, with names in front of their values, and with each
        string and number as a line of its own.
        """
        if self._detectors.replace(text)[1]:
            return False
        lines = [text.replace('"', "\n"), *_numbers.findall(text)]
        return not self._detectors.replace("\n".join(lines))[1]
