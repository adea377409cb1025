"""Credentials that are the same in every request: bearer, basic, a field of any name; and none at all.

Made by `proxyd.http_credentials.choosing`.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

from protocols.http.messages import RequestHead
from proxyd.config import HttpBasic, HttpHeader, SecretSource
from proxyd.http_credentials.injecting import Injected
from proxyd.http_credentials.secrets import TargetCredentialError, read_target_secret
from proxyd.telemetry import Log

NOTHING: Final = Injected()


class FixedInjector:
    """`read` makes the fields from the secrets as they are now."""

    needs_body_hash = False

    def __init__(self, read: Callable[[], Injected]) -> None:
        self._read = read
        self._injected = read()

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        return self._injected

    async def prepare(self) -> None:
        """There is nothing to fetch."""

    async def keep_fresh(self, log: Log) -> None:
        """Nor does anything end."""

    def invalidate(self) -> None:
        """What is configured stays what it is, until a reload."""

    def reload(self) -> bool:
        injected = self._read()
        has_changed = injected != self._injected
        self._injected = injected
        return has_changed


def bearer(source: SecretSource, removed: frozenset[str]) -> Injected:
    """RFC 6750 section 2.1."""
    token = field_value(source, read_target_secret(source))
    if " " in token or "\t" in token:
        raise TargetCredentialError(source, "holds a blank, and a token has none", "write the token alone")
    return Injected((("authorization", f"Bearer {token}"),), removed)


def basic(login: HttpBasic, removed: frozenset[str]) -> Injected:
    """RFC 7617; UTF-8, as its section 2.1 lets servers ask for."""
    pair = f"{login.user}:{read_target_secret(login.password)}"
    return Injected((("authorization", f"Basic {base64.b64encode(pair.encode()).decode()}"),), removed)


def header(login: HttpHeader, removed: frozenset[str]) -> Injected:
    return Injected(((login.name, field_value(login.value, read_target_secret(login.value))),), removed)


def nothing(removed: frozenset[str]) -> Injected:
    return Injected((), removed)


def field_value(source: SecretSource, value: str) -> str:
    """RFC 9110 section 5.5, without the bytes that it calls obsolete."""
    if any(not 0x20 <= ord(char) < 0x7F and char != "\t" for char in value) or value != value.strip():
        raise TargetCredentialError(
            source,
            "holds characters that no header field has",
            "write one line of ASCII, without blanks around it",
        )
    return value
