"""Detectors: what nobody declared, found by what it looks like. Linear time, pure; the second line behind masks."""

from policy.detectors.detector_set import DetectorSet
from policy.detectors.engine import PatternRefused
from policy.detectors.kinds import GROUPS, KINDS, NAMES
from policy.detectors.masks import Detection
from policy.detectors.matches import Match
from policy.detectors.stream import StreamDetector

__all__ = [
    "GROUPS",
    "KINDS",
    "NAMES",
    "Detection",
    "DetectorSet",
    "Match",
    "PatternRefused",
    "StreamDetector",
]
