"""One request to an OAuth 2 token endpoint, and what its answer means.

Owns the bounds: a deadline, a size, no redirects, no proxy of the environment, TLS verified, nothing but a bearer token
that fits into a field. Must never put the secret, the token or the endpoint's own prose into an error. Called by
`proxyd.http_credentials.oauth2`.
"""

from __future__ import annotations

import base64
import re
import ssl
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus

import httpx
import msgspec
import trio

from proxyd.config import HttpOAuth2

MAX_ANSWER_BYTES: Final = 64 * 1024
MAX_TOKEN_BYTES: Final = 16 * 1024
# RFC 6749 section 5.1 lets an endpoint keep to itself how long a token lasts.
UNSAID_LIFETIME_S: Final = 300.0
LONGEST_LIFETIME_S: Final = 86400.0

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750 section 2.1
_ERROR_CODE: Final = re.compile(r"[a-z_]{1,64}")


class TokenEndpointError(Exception):
    """`str` says what went wrong, for the log."""


@dataclass(frozen=True, slots=True)
class Token:
    value: str = field(repr=False)
    lifetime_s: float = UNSAID_LIFETIME_S


class _Granted(msgspec.Struct):
    access_token: str
    token_type: str
    expires_in: float | str | None = None


class _Refused(msgspec.Struct):
    error: str = ""


async def fetch_token(login: HttpOAuth2, client_secret: str, trusted: ssl.SSLContext | None) -> Token:
    """A new token for the gateway itself (RFC 6749 section 4.4). Raises TokenEndpointError."""
    try:
        with trio.fail_after(login.timeout):
            status, content = await _post(login, client_secret, trusted)
    except trio.TooSlowError:
        raise TokenEndpointError(f"no answer within {login.timeout:g} seconds") from None
    except httpx.HTTPError as error:
        raise TokenEndpointError(f"cannot be reached ({_short(error)})") from None
    if status != 200:
        raise TokenEndpointError(f"status {status}{_error_code(content)}")
    return read_token(content)


async def _post(login: HttpOAuth2, client_secret: str, trusted: ssl.SSLContext | None) -> tuple[int, bytes]:
    form = {"grant_type": "client_credentials"}
    headers = {"accept": "application/json", "accept-encoding": "identity"}
    if login.scope is not None:
        form["scope"] = login.scope
    if login.audience is not None:
        form["audience"] = login.audience
    if login.client_authentication == "client_secret_post":
        form |= {"client_id": login.client_id, "client_secret": client_secret}
    else:  # section 2.3.1: encoded as in a form before they are joined
        pair = f"{quote_plus(login.client_id)}:{quote_plus(client_secret)}"
        headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    verify = (
        trusted if trusted is not None else False
    )  # without a context the URL is one of http on this machine
    async with (
        httpx.AsyncClient(verify=verify, trust_env=False, timeout=login.timeout) as client,
        client.stream("POST", str(login.token_url), data=form, headers=headers) as response,
    ):
        return response.status_code, await _read_bounded(response)


async def _read_bounded(response: httpx.Response) -> bytes:
    """Cancelled and not left where there is too much: the generators inside httpx end only from within."""
    content = bytearray()
    with trio.CancelScope() as scope:
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > MAX_ANSWER_BYTES:
                scope.cancel()
    if len(content) > MAX_ANSWER_BYTES:
        raise TokenEndpointError(f"an answer of more than {MAX_ANSWER_BYTES} bytes")
    return bytes(content)


def read_token(content: bytes) -> Token:
    """Raises TokenEndpointError."""
    try:
        granted = msgspec.json.decode(content, type=_Granted)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise TokenEndpointError("an answer that is not the JSON of a token") from None
    if granted.token_type.lower() != "bearer":
        raise TokenEndpointError("a token of another type than bearer")
    if len(granted.access_token) > MAX_TOKEN_BYTES or not _TOKEN.fullmatch(granted.access_token):
        raise TokenEndpointError("a token that does not fit into a header field")
    return Token(granted.access_token, _lifetime(granted.expires_in))


def _lifetime(expires_in: float | str | None) -> float:
    """Some endpoints write the number as a text."""
    if expires_in is None:
        return UNSAID_LIFETIME_S
    try:
        seconds = float(expires_in)
    except ValueError:
        raise TokenEndpointError("a lifetime that is no number") from None
    if not 0 < seconds < float("inf"):
        raise TokenEndpointError("a token that has ended already")
    return min(seconds, LONGEST_LIFETIME_S)


def _error_code(content: bytes) -> str:
    """Section 5.2's word for it. Descriptions may repeat what was sent, so they are left out."""
    try:
        code = msgspec.json.decode(content, type=_Refused).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return ""
    return f" ({code})" if _ERROR_CODE.fullmatch(code) else ""


def _short(error: httpx.HTTPError) -> str:
    """What the system or OpenSSL says, which is below httpx's own error; nothing of the request is in either."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and (cause.strerror or str(cause)):
            return " ".join((cause.strerror or str(cause)).split())[:200]
        cause = cause.__cause__ or cause.__context__
    return (" ".join(str(error).split()) or type(error).__name__)[:200]
