"""The kinds of values that detectors know by themselves, and the names that stand for several of them.

A kind is the expression that says whether there may be one at all (for the one pass over everything) and the
function that finds them exactly. Called by `policy.detectors.detector_set` and `policy.detectors.section`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from policy.detectors import addresses, numbers, secrets
from policy.detectors.engine import Span

Find = Callable[[bytes, int, int], Iterator[Span]]


@dataclass(frozen=True, slots=True)
class Kind:
    """find(data, begin, end): the spans in data[begin:end]. gates: one of them is in every text that holds one."""

    name: str
    gates: tuple[bytes, ...]
    find: Find


def _tokens(name: str, expression: bytes) -> Kind:
    return Kind(name, (expression,), secrets.Tokens(expression))


# The most particular first: decides what several kinds claim with the same length.
_KINDS = (
    Kind("private_key", (secrets.PRIVATE_KEY,), secrets.find_private_keys),
    Kind("jwt", (secrets.JWT,), secrets.find_jwts),
    Kind("aws_key", (secrets.AWS_ID, secrets.AWS_SECRET, secrets.AWS_SESSION), secrets.find_aws_keys),
    _tokens("gcp_key", secrets.GCP),
    _tokens("azure_key", secrets.AZURE),
    _tokens("github_token", secrets.GITHUB),
    _tokens("gitlab_token", secrets.GITLAB),
    _tokens("slack_token", secrets.SLACK),
    _tokens("stripe_key", secrets.STRIPE),
    _tokens("model_key", secrets.MODEL),
    _tokens("registry_token", secrets.REGISTRY),
    Kind("email", (addresses.EMAIL,), addresses.find_emails),
    Kind("iban", (numbers.IBAN,), numbers.find_ibans),
    Kind("credit_card", (numbers.CARD,), numbers.find_cards),
    Kind("us_ssn", (numbers.SSN, numbers.SSN_NAMED), numbers.find_ssns),
    Kind(
        "phone",
        (numbers.PHONE_INTERNATIONAL, numbers.PHONE_DIALLED, numbers.PHONE_NATIONAL, numbers.PHONE_NAMED),
        numbers.find_phones,
    ),
    Kind("ip", (addresses.IPV4, addresses.IPV6), addresses.find_ips),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

GROUPS: dict[str, tuple[str, ...]] = {
    "cloud_key": (
        "aws_key",
        "gcp_key",
        "azure_key",
        "github_token",
        "gitlab_token",
        "slack_token",
        "stripe_key",
        "model_key",
        "registry_token",
    )
}

NAMES: tuple[str, ...] = (*KINDS, *GROUPS)


def expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names with each group's members in its place; own patterns stay as they are."""
    members = [member for name in names for member in GROUPS.get(name, (name,))]
    return tuple(dict.fromkeys(members))
