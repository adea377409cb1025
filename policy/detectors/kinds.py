"""The kinds of values that detectors know by themselves, and the names that stand for several of them.

A kind has one or more finders: the expression that says whether there may be one at all (for the one pass over
everything) and the function that finds them exactly. Called by `policy.detectors.detector_set` and
`policy.detectors.section`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from policy.detectors import addresses, numbers, secrets
from policy.detectors.engine import Span

Find = Callable[[bytes, int, int], Iterator[Span]]


@dataclass(frozen=True, slots=True)
class Finder:
    """find(data, begin, end): the spans in data[begin:end]. gate: an expression that is in every text with one."""

    gate: bytes
    find: Find


@dataclass(frozen=True, slots=True)
class Kind:
    name: str
    finders: tuple[Finder, ...]


def _kind(name: str, *finders: tuple[bytes, Find]) -> Kind:
    return Kind(name, tuple(Finder(gate, find) for gate, find in finders))


def _tokens(name: str, expression: bytes) -> Kind:
    return _kind(name, (expression, secrets.Tokens(expression)))


# The most particular first: decides what several kinds claim with the same length.
_KINDS = (
    _kind("private_key", (secrets.PRIVATE_KEY, secrets.find_private_keys)),
    _kind("jwt", (secrets.JWT, secrets.find_jwts)),
    _kind(
        "aws_key",
        (secrets.AWS_ID, secrets.find_aws_ids),
        (secrets.AWS_SECRET, secrets.find_aws_secrets),
        (secrets.AWS_SESSION, secrets.find_aws_sessions),
    ),
    _tokens("gcp_key", secrets.GCP),
    _kind(
        "azure_key",
        (secrets.AZURE, secrets.Tokens(secrets.AZURE)),
        (secrets.AZURE_SIGNED, secrets.Endings(secrets.AZURE_SIGNED, secrets.AZURE_BYTES, 42, 76)),
    ),
    _tokens("github_token", secrets.GITHUB),
    _tokens("gitlab_token", secrets.GITLAB),
    _tokens("slack_token", secrets.SLACK),
    _tokens("stripe_key", secrets.STRIPE),
    _tokens("model_key", secrets.MODEL),
    _kind(
        "registry_token",
        (secrets.REGISTRY, secrets.Tokens(secrets.REGISTRY)),
        (secrets.TERRAFORM, secrets.Endings(secrets.TERRAFORM, secrets.LETTERS, 14, 14)),
    ),
    _kind(
        "service_token",
        (secrets.SERVICE, secrets.Tokens(secrets.SERVICE)),
        (secrets.MAILCHIMP, secrets.Endings(secrets.MAILCHIMP, secrets.HEX, 32, 32, skipped=1)),
        (secrets.TELEGRAM, secrets.Endings(secrets.TELEGRAM, secrets.DIGITS, 8, 10, skipped=1)),
    ),
    _kind("email", (addresses.EMAIL, addresses.find_emails)),
    _kind("iban", (numbers.IBAN, numbers.find_ibans)),
    _kind("credit_card", (numbers.CARD, numbers.find_cards)),
    _kind("us_ssn", (numbers.SSN, numbers.find_ssns), (numbers.SSN_NAMED, numbers.find_named_ssns)),
    _kind(
        "phone",
        (numbers.PHONE_INTERNATIONAL, numbers.find_international_phones),
        (numbers.PHONE_NATIONAL, numbers.find_national_phones),
        (numbers.PHONE_NAMED, numbers.find_named_phones),
    ),
    _kind("ip", (addresses.IPV4, addresses.find_ipv4s), (addresses.IPV6, addresses.find_ipv6s)),
)

KINDS: dict[str, Kind] = {kind.name: kind for kind in _KINDS}

# Kinds that people write with digits, letters and separators beyond ASCII.
FOLDED = frozenset({"email", "iban", "credit_card", "us_ssn", "phone", "ip"})

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
        "service_token",
    )
}

NAMES: tuple[str, ...] = (*KINDS, *GROUPS)


def expanded(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names with each group's members in its place; own patterns stay as they are."""
    members = [member for name in names for member in GROUPS.get(name, (name,))]
    return tuple(dict.fromkeys(members))
