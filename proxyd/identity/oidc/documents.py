"""Fetching what an issuer publishes: its description of itself, and its keys.

Owns every bound on that: one deadline over all of it, size, https (or loopback), no redirect, no proxy from the
environment, no compression, TLS by the configured authorities. Must never believe a description that names another
issuer. Called by `issuer_keys` alone.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Final

import httpx
import trio

from proxyd.config import Issuer
from proxyd.config.issuers import problem_with_url
from proxyd.identity.oidc.json_text import JsonError, read_object
from proxyd.identity.oidc.jwks import KeysError, KeySet, read_keys
from proxyd.tls_files import TlsSettingsError, certificates_in, read_file

MAX_DOCUMENT_BYTES: Final = 1 << 20

_HEADERS: Final = {"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "proxyd"}


class FetchError(Exception):
    """The issuer's keys could not be had. The text is one line, for the log and for operators."""


class AnotherIssuer(FetchError):
    """`named`: what the description calls its issuer, if that can be shown; "" else."""

    def __init__(self, url: str, named: object) -> None:
        super().__init__(f"{url} describes another issuer: {ascii(named)[:200]}")
        is_shown = isinstance(named, str) and len(named) < 200 and named.isascii() and named.isprintable()
        self.named = str(named) if is_shown else ""


def tls_context(issuer: Issuer) -> tuple[ssl.SSLContext, bytes]:
    """How the issuer has to prove itself, and the content of the file that says so (b"" for the system's).

    Blocks on the disk. Raises TlsSettingsError.
    """
    if issuer.ca == "system":
        return ssl.create_default_context(), b""
    content = read_file(issuer.ca)
    certificates_in(issuer.ca, content)  # without any, no context would say no: it would trust the system's
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies chain and host name
    try:
        context.load_verify_locations(cadata=content.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        remedy = "name the file of the issuer's authority, with certificates in PEM form alone"
        raise TlsSettingsError(issuer.ca, "cannot be used as authorities", remedy) from error
    return context, content


async def fetch_keys(
    issuer: Issuer,
    context: ssl.SSLContext,
    *,
    transport: Callable[[], httpx.AsyncBaseTransport] | None = None,
) -> KeySet:
    """The keys that `issuer` publishes now, within its `timeout`. Raises FetchError.

    `transport`: in place of the network.
    """
    with trio.move_on_after(issuer.timeout):
        try:
            async with httpx.AsyncClient(
                verify=context,
                trust_env=False,
                follow_redirects=False,
                timeout=issuer.timeout,
                headers=_HEADERS,
                transport=None if transport is None else transport(),
            ) as client:
                return await _fetch(client, issuer)
        except httpx.HTTPError as error:
            raise FetchError(f"{issuer.issuer} cannot be reached: {_why(error)}") from error
        except (KeysError, httpx.InvalidURL) as error:
            raise FetchError(str(error)) from error
    raise FetchError(f"{issuer.issuer} did not answer within {issuer.timeout:g} s")


def _why(error: httpx.HTTPError) -> str:
    """In the words of whatever was first to know: the client's library often has none of its own."""
    cause: BaseException | None = error
    while cause is not None:
        if text := " ".join(str(cause).split()):
            return text[:300]
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__


async def _fetch(client: httpx.AsyncClient, issuer: Issuer) -> KeySet:
    description = await _get(client, issuer.discovery_url)
    try:
        found = read_object(description)
    except JsonError as error:
        raise FetchError(f"{issuer.discovery_url} is {error}") from None
    named = found.get("issuer")
    if named != issuer.issuer:
        raise AnotherIssuer(issuer.discovery_url, named)
    keys_url = found.get("jwks_uri")
    if not isinstance(keys_url, str):
        raise FetchError(f"{issuer.discovery_url} does not say where the keys are (`jwks_uri`)")
    if problem := problem_with_url(keys_url):
        raise FetchError(f"the address of the keys {ascii(keys_url)[:200]} {problem}")
    # A thousand-bit number or two are unpacked for each key: too long for the event loop when there are many.
    return await trio.to_thread.run_sync(read_keys, await _get(client, keys_url), abandon_on_cancel=True)


async def _get(client: httpx.AsyncClient, url: str) -> bytes:
    async with client.stream("GET", url) as response:
        if response.is_redirect:
            raise FetchError(f"{url} sends elsewhere ({response.status_code}), which is not followed")
        if response.status_code != 200:
            raise FetchError(f"{url} answers with status {response.status_code}")
        if response.headers.get("content-encoding", "identity") != "identity":
            raise FetchError(f"{url} answers in compressed form, which was not asked for")
        return await _body(response, url)


async def _body(response: httpx.Response, url: str) -> bytes:
    content = bytearray()
    is_too_long = False
    try:
        async for piece in response.aiter_raw():
            content += piece
            if len(content) > MAX_DOCUMENT_BYTES and not is_too_long:
                is_too_long = True
                # Leaving the loop would leave httpx's generators unfinished; the closed connection ends them.
                await response.aclose()
    except (httpx.HTTPError, httpx.StreamError):
        if not is_too_long:
            raise
    if is_too_long:
        raise FetchError(f"{url} answers with more than {MAX_DOCUMENT_BYTES} bytes")
    return bytes(content)
