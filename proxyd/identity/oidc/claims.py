"""The claims of a verified token made into a subject.

Owns whether a token is for us, now, and for whom: audience, times, name, groups. Never reads a signature (`token`), and
repairs nothing: a name or group in a doubtful form refuses the whole token. Pure: the time is passed in.
Called by `verifier`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from policy.facts import Subject
from proxyd.config import Issuer
from proxyd.identity.certificate import problem_with_name
from proxyd.identity.oidc.refusal import ASK_OPERATORS, TokenRefused, refused

METHOD: Final = "oidc"
MAX_GROUPS: Final = 256
MAX_VALUES: Final = 64
MAX_VALUE_CHARS: Final = 1024
LATEST_S: Final = 253402300799.0  # the end of the year 9999: what is beyond was written in milliseconds


def subject_from_claims(
    claims: Mapping[str, Any], issuer: Issuer, now: float, *, is_access_token: bool
) -> Subject:
    """`claims` are verified, and of `issuer`. `now` in Unix seconds. Raises TokenRefused."""
    if "events" in claims:  # OpenID Connect Back-Channel Logout 1.0, section 2.4
        raise refused("is a logout token", "send an access token or an ID token")
    if (
        claims.get("cnf") is not None
    ):  # RFC 7800; RFC 9449 section 7.2 and RFC 8705 section 3 forbid to overlook it
        raise refused(
            "is bound to a key of its owner's (`cnf`), which is not asked for here",
            "get one that is not bound (neither by DPoP nor by mutual TLS)",
        )
    expires_at = _check_times(claims, issuer, now)
    audience = _check_audience(claims, issuer, is_access_token=is_access_token)
    return Subject(
        name=_name(claims, issuer),
        groups=_groups(claims, issuer),
        claims=_subject_claims(claims, issuer, audience),
        method=METHOD,
        expires_at=expires_at,
    )


# --- for us, and now --------------------------------------------------------------------------------------


def _check_times(claims: Mapping[str, Any], issuer: Issuer, now: float) -> float:
    expires_at = _time(claims, "exp")
    if expires_at is None:
        raise refused("has no end (`exp`)", "have the identity provider issue tokens that expire")
    if expires_at <= now:
        raise refused("has expired", reason=f"the token has expired {now - expires_at:.0f} s ago")
    for name in ("nbf", "iat"):
        begin = _time(claims, name)
        if begin is not None and begin > now + issuer.clock_skew:
            ahead_s = begin - now
            raise TokenRefused(
                f"the token begins {ahead_s:.0f} s from now (`{name}`)",
                f"the token is not valid yet (`{name}` is {ahead_s:.0f} s from now): wait, or set the clocks right",
                may_pass=True,
            )
    return expires_at


def _time(claims: Mapping[str, Any], name: str) -> float | None:
    """A NumericDate (RFC 7519 section 2)."""
    value = claims.get(name)
    if value is None and name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refused(f"has a time that is no number (`{name}`)")
    if not 0 <= value <= LATEST_S:
        raise refused(f"has a time out of range (`{name}`)", "have it written in seconds since 1970")
    return float(value)


def _check_audience(claims: Mapping[str, Any], issuer: Issuer, *, is_access_token: bool) -> list[str]:
    audience = _texts(claims.get("aud"))
    if not audience:
        raise refused("does not say whom it is for (`aud`)", f"ask for one for {_listed(issuer.audiences)}")
    if not any(each in issuer.audiences for each in audience):
        raise refused("is for somebody else (`aud`)", f"ask for one for {_listed(issuer.audiences)}")
    names = ("client_id", "azp") if is_access_token else ("azp", "client_id")
    party = next((claims[name] for name in names if isinstance(claims.get(name), str)), None)
    if issuer.authorized_parties:
        if party not in issuer.authorized_parties:
            raise refused(
                "was given to a client that is not known here (`azp`)",
                f"get it by a client that is, or {ASK_OPERATORS} to add yours to `authorized_parties`",
            )
    elif len(audience) > 1 and party not in issuer.audiences:
        # OpenID Connect Core 1.0, section 3.1.3.7: with several audiences it has to be seen who asked for it.
        raise refused(
            "is for several audiences, and was given to a client that is not known here (`azp`)",
            f"ask for one for {_listed(issuer.audiences)} alone, or {ASK_OPERATORS} to set `authorized_parties`",
        )
    return audience


def _listed(names: Sequence[str]) -> str:
    return " or ".join(f"`{name}`" for name in names[:4])


# --- who --------------------------------------------------------------------------------------------------


def _name(claims: Mapping[str, Any], issuer: Issuer) -> str:
    source = issuer.claims.name
    value = _at(claims, source)
    if not isinstance(value, str):
        raise refused(
            f"names nobody: it has no text `{source}`", f"{ASK_OPERATORS} which claim holds your name"
        )
    name = issuer.name_prefix + value
    problem = "is empty" if not value else problem_with_name(name)
    if problem:
        raise refused(
            f"has a name (`{source}`) that {problem}", "have the identity provider give a plain one"
        )
    if source == "email" and claims.get("email_verified", True) is not True:
        raise refused(
            "has an e-mail address that nobody has verified", "have the identity provider verify it"
        )
    return name


def _groups(claims: Mapping[str, Any], issuer: Issuer) -> tuple[str, ...]:
    source = issuer.claims.groups
    if source is None:
        return ()
    elsewhere = claims.get("_claim_names")
    if isinstance(elsewhere, Mapping) and source in elsewhere:  # OpenID Connect Core 1.0, section 5.6.2
        raise refused(
            f"does not hold its groups (`{source}`) but says where they are",
            "have the identity provider put fewer groups, all of them, into the token",
        )
    value = _at(claims, source)
    if value is None:
        return ()
    listed = _texts(value)
    if listed is None:
        raise refused(f"has groups (`{source}`) that are not texts")
    if len(listed) > MAX_GROUPS:
        raise refused(f"has more than {MAX_GROUPS} groups", "have the identity provider give fewer")
    groups: dict[str, None] = {}
    for group in listed:
        if problem := problem_with_name(group):
            raise refused(f"has a group (`{source}`) that {problem}", "rename the group")
        groups.update(dict.fromkeys(issuer.group_map.get(group, (group,))))
    return tuple(groups)


def _subject_claims(
    claims: Mapping[str, Any], issuer: Issuer, audience: list[str]
) -> dict[str, str | list[str]]:
    """What is mapped, and who vouches for it: those names no mapping can take (`RESERVED_CLAIMS`)."""
    found: dict[str, str | list[str]] = {}
    for name, source in issuer.claims.more.items():
        value = _at(claims, source)
        if value is not None:
            found[name] = _value(source, value)
    found |= {"issuer": issuer.issuer, "issuer_name": issuer.name, "audience": audience}
    for name, source in (("subject", "sub"), ("client_id", "client_id"), ("client_id", "azp")):
        value = claims.get(source)
        if isinstance(value, str) and name not in found and not problem_with_name(value):
            found[name] = value
    return found


def _value(source: str, value: object) -> str | list[str]:
    """A claim as policies compare it: text, or a list of texts."""
    items: list[object] = value if isinstance(value, list) else [value]
    if len(items) > MAX_VALUES or not all(isinstance(item, str | int | float) for item in items):
        raise refused(f"has a claim `{source}` that is no text or list of texts", ASK_OPERATORS)
    texts = [item if isinstance(item, str) else _written(item) for item in items]
    if any(len(text) > MAX_VALUE_CHARS or not text.isprintable() for text in texts):
        raise refused(f"has a claim `{source}` that is too long, or not printable", ASK_OPERATORS)
    return texts if isinstance(value, list) else texts[0]


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _at(claims: Mapping[str, Any], path: str) -> Any:
    """The claim at `path`: of that very name, or by its dots through objects. None where there is none."""
    if path in claims:
        return claims[path]
    value: Any = claims
    for part in path.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def _texts(value: object) -> list[str] | None:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None
