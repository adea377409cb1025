"""`identity.issuers`: whose tokens are believed, and what of a token becomes the subject.

Pure: no issuer is asked. Used by `proxyd.identity.oidc`, and by `proxyd.references`.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Final, Literal, Self
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Duration, Name, Section, refusal
from proxyd.config.fields import FilePath, Some

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip
"""Signatures by a key that the issuer alone has. What a shared secret makes (HS*) proves nothing of the kind."""

RESERVED_CLAIMS = frozenset(
    {
        *("issuer", "issuer_name", "subject", "audience", "client_id", "factors"),
        *("keys", "key_id", "principals", "serial", "authority", "certificate_issuer"),
        *("cn", "o", "ou", "san_uri", "san_email", "san_dns"),
    }
)
"""Claims of a subject that say how it was proved. What an issuer writes into a token never gets these names."""

MAX_URL_CHARS = 2048
MAX_CLAIM_PARTS = 8
LONGEST_SKEW_S = 300.0
SHORTEST_REFRESH_S = 10.0

_CLAIM_PART = re.compile(r"[!-~]{1,128}")
_NAME_PREFIX = re.compile(r"[!-~\u00a1-\U0010ffff]{0,64}")


def is_loopback_host(host: str) -> bool:
    """Does `host` of a URL mean this machine? Decided without asking anybody."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def problem_with_url(url: str) -> str:
    """Why keys may not be fetched from `url`, as the end of a sentence; "" when they may."""
    if len(url) > MAX_URL_CHARS or not url.isascii() or not url.isprintable() or " " in url:
        return "is no URL"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "is no URL"
    if not host:
        return "names no host"
    return _problem_with_parts(parts, host)


def _problem_with_parts(parts: SplitResult, host: str) -> str:
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback_host(host)):
        return "is not https: whoever sits on the way could put keys of their own there"
    if parts.username is not None or parts.password is not None:
        return "holds a user name"
    if parts.fragment:
        return "has a fragment"
    return ""


_DISCOVERY: Final = "/.well-known/openid-configuration"  # OpenID Connect Discovery 1.0, section 4


def _issuer_url(url: str) -> str:
    problem = problem_with_url(url)
    if not problem and ("?" in url or "#" in url):
        problem = "has a query or a fragment"  # OpenID Connect Discovery 1.0, section 3
    if url.endswith(_DISCOVERY):
        raise refusal(
            "the address of the issuer's description, not the issuer",
            f"write `{url.removesuffix(_DISCOVERY)}`",
        )
    if problem:
        raise refusal(problem, "write what stands in the tokens' `iss`, as `https://login.example`")
    return url


def _claim_path(path: str) -> str:
    parts = path.split(".")
    if len(parts) > MAX_CLAIM_PARTS or any(_CLAIM_PART.fullmatch(part) is None for part in parts):
        raise refusal(
            "not the name of a claim", "write it as in the token, with dots as in `realm_access.roles`"
        )
    return path


def _name_prefix(prefix: str) -> str:
    if _NAME_PREFIX.fullmatch(prefix) is None:
        raise refusal("not the beginning of a name", "write printable text without blanks, as `partner:`")
    return prefix


def _skew(seconds: float) -> float:
    if seconds > LONGEST_SKEW_S:
        raise refusal("more than clocks differ", "write at most `5m`, and keep the clocks right")
    return seconds


def _refresh(seconds: float) -> float:
    if seconds < SHORTEST_REFRESH_S:
        raise refusal("asks the issuer too often", "write at least `10s`; `10m` is a good one")
    return seconds


ClaimPath = Annotated[str, AfterValidator(_claim_path)]
"""A claim of a token; a dot goes one object deeper, unless a claim has that very name, dots included."""


class TokenClaims(Section):
    """`name`: the claim that is the subject's name. `more`: the subject's claim, and the token's that gives it."""

    name: ClaimPath = "sub"
    groups: ClaimPath | None = "groups"
    more: dict[Name, ClaimPath] = Field(default={})

    @model_validator(mode="after")
    def _nothing_reserved(self) -> Self:
        for name in self.more:
            if name in RESERVED_CLAIMS:
                raise refusal(
                    f"`{name}` says how somebody was proved, and no token may say that",
                    "take another name",
                    at=("more", name),
                )
        return self


class Issuer(Section):
    """One OpenID Connect provider.

    `issuer`: compared with a token's `iss` letter by letter. `audiences`: a token has to be for one of them.
    `authorized_parties`: clients (`azp`, `client_id`) to which tokens may have been given. `stale`: so long are keys
    believed while the issuer does not answer. `scopes`: what a client is told to ask for.
    """

    name: Name = Field(examples=["company"])
    issuer: Annotated[str, AfterValidator(_issuer_url)] = Field(examples=["https://login.example"])
    audiences: Some[Annotated[str, Field(min_length=1, max_length=1024)]] = Field(examples=["[proxyd]"])
    authorized_parties: tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...] = ()
    ca: Literal["system"] | FilePath = "system"
    algorithms: Some[Algorithm] = ("RS256", "ES256", "EdDSA")
    claims: TokenClaims = TokenClaims()
    group_map: dict[str, tuple[str, ...]] = Field(default={})
    name_prefix: Annotated[str, AfterValidator(_name_prefix)] = ""
    scopes: tuple[Annotated[str, Field(pattern=r"^[!#-\[\]-~]+$", max_length=256)], ...] = ("openid",)
    clock_skew: Annotated[Duration, AfterValidator(_skew)] = 30.0
    refresh: Annotated[Duration, AfterValidator(_refresh)] = 600.0
    timeout: Duration = 5.0
    stale: Duration = 86400.0

    @model_validator(mode="after")
    def _keys_outlive_a_refresh(self) -> Self:
        if self.stale < self.refresh:
            raise refusal(
                "keys would go stale before they are fetched again",
                "make `stale` longer than `refresh`",
                at=("stale",),
            )
        return self

    @property
    def discovery_url(self) -> str:
        """Where the issuer describes itself (OpenID Connect Discovery 1.0, section 4)."""
        return f"{self.issuer.rstrip('/')}{_DISCOVERY}"

    def believes_as(self, before: Issuer) -> bool:
        """Would a token that was believed under `before` be believed here too, and be of the same subject?"""
        return (
            set(before.audiences) <= set(self.audiences)
            and _admits(self.authorized_parties, before.authorized_parties)
            and set(before.algorithms) <= set(self.algorithms)
            and (self.name, self.issuer, self.claims, self.group_map, self.name_prefix)
            == (before.name, before.issuer, before.claims, before.group_map, before.name_prefix)
        )


def _admits(parties: tuple[str, ...], before: tuple[str, ...]) -> bool:
    """Are all of the clients `before` among `parties`? An empty list asks something else of a token."""
    return parties == before or (bool(before) and set(before) <= set(parties))
