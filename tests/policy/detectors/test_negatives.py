"""What ordinary texts are full of and no detector may take for a value."""

from __future__ import annotations

import base64
import random
import uuid
from collections import Counter
from collections.abc import Callable

import pytest

from policy.detectors import NAMES, DetectorSet

QUIET = DetectorSet.of(
    [name for name in NAMES if name != "ip"]
)  # a version of four parts looks like an address

TEXTS = [
    "550e8400-e29b-41d4-a716-446655440000 urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
    "commit 1c002dd4b536e7479fe34593e72e6c6c1819e53b, merge 3f2a9b1 5d41402abc4b2a76b9719d911017c592",
    "2026-11-21T18:04:39.123456+01:00 20261121T180439Z Sat, 21 Nov 2026 18:04:39 +0000 (UTC)",
    "[21/Nov/2026:18:04:39 +0100] 1763748279 1763748279.123 1763748279123 1763748279123456",
    "python 3.11.2-1+deb12u1, libc6 (>= 2.36), v1.2.3-rc.1+build.5, 10.0.19045, 2.4.57",
    "ORD-2026-0001234, INV/2026/11/0042, SKU 4006381333931, EAN 4902430698955, ISBN 978-3-16-148410-0",
    "order 1000234567, invoice 20261121-0042, ticket #1234567, PR-12345, AB-123-45-C",
    "price 1,234.56 EUR, 12 345,67 kr, 1\u202f234\u202f567 \u20ac, 3.141592653589793, 6.022e23, -273.15",
    "pages 123\u2013456, 1990\u20131995, lines 100-200-300, 12:30\u201314:45, \u00a7\u00a7 823 ff., \u2116 12",
    "00:1a:2b:3c:4d:5e 02-42-ac-11-00-02, /dev/sda1 8:1, port 8080, pid 31337, 0x7ffd1234abcd",
    "total 4096 drwxr-xr-x 2 1000 1000 4096 Nov 21 18:04, size 1234567890, inode 4026531836",
    "GET /api/v1/items/4711?page=2&limit=100 HTTP/1.1 200 1234 0.012 - curl/8.5.0",
    "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 sha512-abc== integrity",
    "Lorem ipsum 2, 3, 5, 7, 11, 13; 1 2 3 4 5 6 7 8 9 10; 0000 0001 0010 0011 0100",
    "53.5511, 9.9937; lat=52.520008&lon=13.404954; geo:37.786971,-122.399677",
    "@pytest.mark.parametrize, user@host:~$, npm i @types/node@20.1.0, git@github, @media (min-width: 40em)",
    "icon@2x.png, x@3x.jpg, getty@tty1.service, foo@bar, a @ b, e-mail me, name at example dot com",
    "sk-learn sk_test pk_live_51H token=abc key: value, secret = changeme, password=hunter2",
    "ghp gho github_pat glpat- xoxb AKIA AIza npm_config_registry hf_transfer pypi-server SG.1",
    "eyes, eyJ, ey.a.b, Bearer token, -----BEGIN CERTIFICATE-----, ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI",
    "DE12, GB 2026, IT department, NL1234, FR-75001, AT&T, CH 8001 Z\u00fcrich, SE-111 22",
    "0304 2733 3946 1bf2 0a0b 4c4d ffee 00ff, 48 65 6c 6c 6f 20 77 6f 72 6c 64, ff ee dd cc bb aa",
    "192.0.2, 1.2.3, section 4.1.1.1.1, \u00bd, x\u00b2, \u2460\u2461\u2462, 10\u00a0km",
    "5\u202f%, \uff11\uff10\u5186, \u0662\u0660\u0662\u0666",
]


@pytest.mark.parametrize("text", TEXTS)
def test_ordinary_texts_have_nothing_to_find(text: str) -> None:
    data = text.encode()
    assert [(match.kind, data[match.start : match.end]) for match in QUIET.find(data)] == []


def _article(chance: random.Random) -> str:
    """EAN-13, with its check digit."""
    digits = [4, *(chance.randint(0, 9) for _ in range(11))]
    total = sum(digits[::2]) + 3 * sum(digits[1::2])
    return "".join(map(str, [*digits, -total % 10]))


NOISE: dict[str, Callable[[random.Random], str]] = {
    "uuid": lambda chance: str(uuid.UUID(int=chance.getrandbits(128))),
    "sha-1": lambda chance: f"{chance.getrandbits(160):040x}",
    "sha-256": lambda chance: f"{chance.getrandbits(256):064x}",
    "short hash": lambda chance: f"{chance.getrandbits(28):07x}",
    "base64": lambda chance: base64.b64encode(chance.randbytes(24)).decode(),
    "milliseconds": lambda chance: str(chance.randint(1_600_000_000_000, 1_900_000_000_000)),
    "microseconds": lambda chance: str(chance.randint(1_600_000_000_000_000, 1_900_000_000_000_000)),
    "version": lambda chance: ".".join(str(chance.randint(0, 40)) for _ in range(3)),
    "order": lambda chance: f"ORD-{chance.randint(10**5, 10**9)}",
    "float": lambda chance: repr(chance.random() * 1000),
    "article": _article,
    "address of a network card": lambda chance: ":".join(f"{chance.getrandbits(8):02x}" for _ in range(6)),
    "date": lambda chance: (
        f"{chance.randint(1, 28):02}.{chance.randint(1, 12):02}.{chance.randint(1950, 2030)}"
    ),
    "time": lambda chance: f"2026-11-21T18:04:39.{chance.randint(0, 999999):06}+01:00",
    "row of bytes": lambda chance: " ".join(f"{chance.getrandbits(8):02x}" for _ in range(16)),
}


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_not_taken_for_values(name: str) -> None:
    chance = random.Random(7)  # noqa: S311  the same each time
    data = "\n".join(NOISE[name](chance) for _ in range(3000)).encode()
    assert Counter(match.kind for match in QUIET.find(data)) == {}


def test_a_corpus_has_hardly_any() -> None:
    """Long numbers without form: one in ten has the check digit of a card, and few begin as one does."""
    chance = random.Random(7)  # noqa: S311
    data = "\n".join(str(chance.getrandbits(63)) for _ in range(10_000)).encode()
    assert len(QUIET.find(data)) < 150
