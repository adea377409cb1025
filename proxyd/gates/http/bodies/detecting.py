"""Detectors over the values of a body: each by itself, and behind its name where that tells what it is.

Owns how many values are looked through at once (each as a line of its own, because patterns may say where a value
begins and ends) and how a part of a JSON document is put together again. Called by the plan of a body and by tables.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from policy.json_masking import json_text
from protocols.http.json_runs import string_text
from protocols.http.json_tokens import BLANKS, BODY
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
# In a run: its strings (a name has its colon), and numbers worth looking at.
_looked_at = re.compile(rb'("' + BODY + rb'")(' + BLANKS + rb":" + BLANKS + rb")?+|-?[0-9][-+0-9.eE]{6,}+")


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
        matches = list(_looked_at.finditer(run))
        tokens = [match[1] or match[0] for match in matches]
        texts = [string_text(token) if token[0] == 0x22 else token.decode() for token in tokens]
        found: Counter[str] = Counter()
        becomes = self.all_replaced(texts, found)
        if becomes is None:
            return None
        for name, value in _named(matches):
            if becomes[value] == texts[value] and tells(texts[name]):
                becomes = list(becomes)
                becomes[value] = self.replaced(texts[value], found, texts[name])
        if not found:
            return run
        counts.update(found)
        out: list[bytes] = []
        position = 0
        for match, token, text, new in zip(matches, tokens, texts, becomes, strict=True):
            if text != new:
                out += (run[position : match.start()], json_text(new).encode())
                position = match.start() + len(token)
        out.append(run[position:])
        return b"".join(out)


def _named(matches: list[re.Match[bytes]]) -> Iterator[tuple[int, int]]:
    """Pairs of a name and the value right behind it, by number."""
    for number in range(len(matches) - 1):
        following = matches[number + 1]
        if (
            matches[number][2] is not None
            and following.start() == matches[number].end()
            and following[2] is None
        ):
            yield number, number + 1
