"""The top-level key `detectors` of a policy document, and the names that a mask's `detect` may give.

Each model checks what can be seen from inside itself. Called by `policy.sections`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, Field

from policy.detectors.kinds import NAMES
from policy.detectors.own import MAX_PATTERN, own_fault, own_faults_together
from policy.faults import closest, refusal
from policy.located_yaml import Section

_NAME = re.compile(r"[a-z0-9_]{1,64}", re.ASCII)
_RESERVED = frozenset({"all", "token"})


def _name(text: str) -> str:
    if text in NAMES or text in _RESERVED:
        raise refusal(
            f"`{text}` is a detector of the gateway's own",
            "give yours another name, as in `company_" + text + "`",
        )
    if not _NAME.fullmatch(text):
        raise refusal(
            f"`{text}` cannot be the name of a detector",
            "write small letters, digits and underscores, as in `employee_number`: it takes the place of a value",
        )
    return text


def _pattern(text: str) -> str:
    fault = own_fault(text)
    if fault is not None:
        raise refusal(*fault)
    return text


class OwnDetector(Section):
    """One pattern of a policy's own: RE2 syntax, one line at a time."""

    pattern: Annotated[str, Field(min_length=1, max_length=MAX_PATTERN), AfterValidator(_pattern)] = Field(
        examples=['"E-[0-9]{6}"']
    )


def _together(detectors: dict[str, OwnDetector]) -> dict[str, OwnDetector]:
    fault = own_faults_together(own.pattern for own in detectors.values())
    if fault is not None:
        raise refusal(*fault)
    return detectors


DetectorName = Annotated[str, AfterValidator(_name)]
# The type of `detectors` in the document.
OwnDetectors = Annotated[
    dict[DetectorName, OwnDetector], Field(min_length=1, max_length=200), AfterValidator(_together)
]


def unknown_detector(name: str, own: Mapping[str, object]) -> tuple[str, str] | None:
    """What is wrong with a name in a mask's `detect`, and what to do; None when it is one."""
    if name in NAMES or name in own:
        return None
    known = (*NAMES, *own)
    return (
        f"`{name}` is not a detector",
        f"{closest(name, known)}detectors are {', '.join(NAMES)}, and those under `detectors` of the policy",
    )
