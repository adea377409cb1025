"""Detectors over the values of a body: each by itself, and behind its name where that tells what it is.

Owns what becomes of one value, and of many that have no names (each as a line of its own, because patterns may say
where a value begins and ends). Called by the plan of a body, by tables, and by `json_detecting`, which does the same
for runs of a document at once.
"""

from __future__ import annotations

import re
from collections import Counter

from policy.detectors.encoded import holds_encoded
from policy.json_masking import json_text
from proxyd.gates.http.bodies.interfaces import Detectors

SHORTEST = (
    7  # characters of a number, or of a value that its name makes one; below that there is nothing to find
)
LONGEST_NAMED = 4096

# Names behind which detectors take for a value what they would not take for one alone (nine digits behind `ssn`).
TELLING = (
    "ssn|social|phone|tel|mobile|cell|fax|whatsapp|secret|key|token|pass|pwd|account|sas|sig|credential|auth|client"
    "|session|iban|card|api"
)
_telling = re.compile(TELLING, re.IGNORECASE | re.ASCII)


def tells(name: str) -> bool:
    """Does a name say what its value is?"""
    return _telling.search(name) is not None


def may_be_named(name: str, value: str) -> bool:
    """Can it be the name that makes a value of it?"""
    return SHORTEST <= len(value) <= LONGEST_NAMED and tells(name)


def beside(name: str) -> str:
    """What stands in front of a value that is looked at with its name."""
    return f"{name}: "


class ValueDetection:
    def __init__(self, detectors: Detectors) -> None:
        self.detectors = detectors

    def replaced(self, text: str, counts: Counter[str], name: str = "") -> str:
        """`text` with what is found in it replaced. name: of the value that it is, "" for none."""
        replaced, found = self.detectors.replace_value(text)
        if not found and name and may_be_named(name, text):
            before = beside(name)
            line, found = self.detectors.replace(before + text)
            if not line.startswith(before):  # it is the name that something was found in
                return text
            replaced = line[len(before) :]
        counts.update(found)
        return replaced if found else text

    def token(self, text: str, counts: Counter[str], name: str) -> bytes | None:
        """A string of JSON; None when it stays."""
        replaced = self.replaced(text, counts, name)
        return None if replaced == text else json_text(replaced).encode()

    def number(self, text: str, counts: Counter[str], name: str) -> bytes | None:
        """A number of JSON, which becomes a string; None when it stays."""
        return self.token(text, counts, name) if len(text) >= SHORTEST else None

    def all_replaced(self, texts: list[str], counts: Counter[str]) -> list[str] | None:
        """Many values at once; None when something goes over the end of one, so that each has to be looked at alone."""
        lines = "\n".join(texts)
        replaced, found = self.detectors.replace(lines)
        becomes = replaced.split("\n") if found else list(texts)
        if len(becomes) != len(texts) or (found and lines.count("\n") != len(texts) - 1):
            return None
        counts.update(found)
        for number in self._encoded(texts):
            if becomes[number] == texts[number]:
                becomes[number] = self.replaced(texts[number], counts)
        return becomes

    def _encoded(self, texts: list[str]) -> list[int]:
        """Those that may be written in base64 or hexadecimal."""
        if not holds_encoded("\n".join(texts).encode("utf-8", "surrogatepass")):
            return []
        return [
            number
            for number, text in enumerate(texts)
            if holds_encoded(text.encode("utf-8", "surrogatepass"))
        ]
