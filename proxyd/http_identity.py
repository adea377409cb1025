"""Who sends a request: the certificate of the connection, the token of the request, or both for one name.

Each request of a connection is asked anew: a connection may carry requests of several people. A token that was
verified before is looked up; one that was not is verified, which may have to wait for the issuer's keys. Called by
`http_caller`.
"""

from __future__ import annotations

import base64
import binascii

import msgspec

from policy.facts import Subject
from protocols.http.messages import Headers, RequestHead
from proxyd.config.factors import ClientFactors
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.identity.oidc.factors import both_factors
from proxyd.identity.oidc.refusal import TokenRefused
from proxyd.identity.oidc.verifier import Tokens

MAX_TOKEN_BYTES = 16 * 1024
# Where SDKs put what they take for the target's key (OpenAI's, Anthropic's, Azure's).
KEY_FIELDS = ("x-api-key", "api-key")


class Presented(msgspec.Struct, frozen=True):
    """token: "" for none. field: where it was."""

    token: str = ""
    field: str = ""


NOTHING = Presented()


def presented(headers: Headers, *, is_proxied: bool) -> Presented:
    """The token of a request. `is_proxied`: it is one to a forward proxy, whose own field comes first.

    Raises Refusal for what could be read in two ways.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        if name in {"authorization", "proxy-authorization", *KEY_FIELDS}:
            if name in found:
                raise Refusal(400, Kind.PROTOCOL, f"The field {name} stands twice.", hint="Send it once.")
            found[name] = value
    fields = ("proxy-authorization",) if is_proxied else ("authorization", *KEY_FIELDS)
    for field in fields:
        value = found.get(field, "")
        token = value if field in KEY_FIELDS else _credential(value)
        if token:
            return Presented(token, field)
    return NOTHING


def _credential(value: str) -> str:
    """`Bearer TOKEN`, or `Basic` with the token as the password, which is all that some clients can send."""
    scheme, _, rest = value.partition(" ")
    rest = rest.strip()
    match scheme.lower():
        case "bearer":
            return rest
        case "basic":
            try:
                text = base64.b64decode(rest, validate=True).decode()
            except (binascii.Error, ValueError):
                return ""
            return text.partition(":")[2]
        case _:
            return ""


async def identify(
    factors: tuple[ClientFactors, ...],
    certificate: Subject | None,
    head: RequestHead,
    tokens: Tokens,
    now: float,
    *,
    is_proxied: bool = False,
) -> tuple[Subject, str]:
    """The subject, and the field that its token was in ("" for none). Raises Refusal."""
    shown = presented(head.headers, is_proxied=is_proxied)
    subject = certificate
    if subject is not None and subject.expires_at is not None and subject.expires_at <= now:
        raise _unknown("The client certificate has expired.", "Get a new one.", is_proxied=is_proxied)
    for combination in factors:
        if "certificate" in combination and subject is None:
            continue
        if "token" not in combination:
            if subject is None:
                continue
            return subject, ""
        if not shown.token:
            continue
        by_token = tokens.known(shown.token)
        if by_token is None:
            by_token = await _verified(shown.token, tokens, is_proxied=is_proxied)
        if "certificate" not in combination or subject is None:
            return by_token, shown.field
        try:
            return both_factors(subject, by_token), shown.field
        except TokenRefused as refused:
            raise _refused(refused, is_proxied=is_proxied) from refused
    raise _missing(factors, is_proxied=is_proxied)


async def _verified(token: str, tokens: Tokens, *, is_proxied: bool) -> Subject:
    if len(token) > MAX_TOKEN_BYTES:
        hint = f"Have your identity provider put less into it: at most {MAX_TOKEN_BYTES} bytes."
        raise _unknown("The token is too long.", hint, is_proxied=is_proxied)
    try:
        return await tokens.subject_of(token)
    except TokenRefused as refused:
        raise _refused(refused, is_proxied=is_proxied) from refused


def _refused(refused: TokenRefused, *, is_proxied: bool) -> Refusal:
    """What is wrong with the token, and what to do, each as a sentence."""
    what, _, next_step = refused.text.rpartition(": ")
    return _unknown(_sentence(what), _sentence(next_step), reason=refused.reason, is_proxied=is_proxied)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _missing(factors: tuple[ClientFactors, ...], *, is_proxied: bool) -> Refusal:
    wanted = " or ".join(" and ".join(f"a {factor}" for factor in one) for one in factors)
    field = "Proxy-Authorization" if is_proxied else "Authorization"
    hint = f"Send `{field}: Bearer TOKEN`." if any("token" in one for one in factors) else ""
    if any("certificate" in one for one in factors):
        hint = f"{hint} Give your client its certificate and key.".strip()
    return _unknown(f"This listener asks for {wanted}.", hint, is_proxied=is_proxied)


def _unknown(detail: str, hint: str, *, reason: str = "", is_proxied: bool) -> Refusal:
    challenge = 'Bearer realm="proxyd"'
    if reason:
        challenge += ', error="invalid_token"'
    if is_proxied:
        # Clients that can only ask a person for a name and a password send the token as the password.
        headers = (("proxy-authenticate", challenge), ("proxy-authenticate", 'Basic realm="proxyd"'))
        return Refusal(407, Kind.UNKNOWN, detail, hint=hint, reason=reason, headers=headers)
    return Refusal(
        401, Kind.UNKNOWN, detail, hint=hint, reason=reason, headers=(("www-authenticate", challenge),)
    )
