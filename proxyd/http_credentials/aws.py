"""Requests signed for AWS, or for what speaks its S3.

Owns which fields are signed and how the body is vouched for: by its hash, or, for bodies that stream to S3 over TLS,
not at all. What the client has signed itself is not looked at and does not go on. Made by
`proxyd.http_credentials.choosing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

from protocols.http.messages import Headers, RequestHead
from proxyd.config import HttpSigV4
from proxyd.http_credentials.fixed import field_value
from proxyd.http_credentials.injecting import CredentialUnavailable, Injected
from proxyd.http_credentials.secrets import read_target_secret
from proxyd.http_credentials.sigv4 import AwsKeys, AwsScope, amz_date, sign
from proxyd.telemetry import Log

UNSIGNED: Final = "UNSIGNED-PAYLOAD"
# Newer clients send a checksum behind a body in pieces. The pieces carry no signature, so they can go on as they are.
UNSIGNED_PIECES: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()

_OF_THE_SIGNATURE: Final = frozenset(
    {
        "authorization",
        "x-amz-date",
        "x-amz-security-token",
        "x-amz-content-sha256",
        "x-amz-region-set",
        "date",
    }
)
_ALSO_SIGNED: Final = frozenset({"content-type", "content-md5"})


class AwsInjector:
    def __init__(
        self, login: HttpSigV4, removed: frozenset[str], clock: Callable[[], float], *, is_tls: bool
    ) -> None:
        self._login = login
        self._clock = clock
        self._scope = AwsScope(login.region, login.service)
        self._removed = removed | _OF_THE_SIGNATURE
        self.needs_body_hash = not (self._scope.is_s3 and is_tls)
        self._keys = self._read()

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        query = request.target.partition("?")[2].lower()
        if "x-amz-signature=" in query or "x-amz-credential=" in query:
            raise CredentialUnavailable(
                "the client has signed the query itself",
                "The query of this request is signed, and the gateway signs requests to this target itself.",
                "Send it without a signature in its query.",
                is_request=True,
            )
        payload_hash = self._payload_hash(request, body_sha256)
        made: list[tuple[str, str]] = [("x-amz-date", amz_date(self._clock()))]
        if self._scope.is_s3:
            made.append(("x-amz-content-sha256", payload_hash))
        if self._keys.session_token:
            made.append(("x-amz-security-token", self._keys.session_token))
        signed: Headers = (("host", request.authority), *made, *self._signed_of(request.headers))
        made_at = made[0][1]
        authorization = sign(
            self._keys, self._scope, request.method, request.target, signed, payload_hash, made_at
        )
        return Injected((("authorization", authorization), *made), self._removed)

    def _signed_of(self, headers: Headers) -> Headers:
        return tuple(
            (name, value)
            for name, value in headers
            if name not in self._removed and (name in _ALSO_SIGNED or name.startswith("x-amz-"))
        )

    def _payload_hash(self, request: RequestHead, body_sha256: str | None) -> str:
        claimed = next((value for name, value in request.headers if name == "x-amz-content-sha256"), "")
        if claimed.startswith("STREAMING-"):
            if self._scope.is_s3 and claimed == UNSIGNED_PIECES and not self.needs_body_hash:
                return claimed
            raise CredentialUnavailable(
                "the client has signed the pieces of the body itself",
                "The pieces of this body are signed, and the gateway signs requests to this target itself.",
                "Let the client send the body unsigned "
                "(boto3: Config(request_checksum_calculation='when_required')).",
                is_request=True,
            )
        if body_sha256 is not None:
            return body_sha256
        if request.body_bytes == 0:
            return EMPTY_SHA256
        if self.needs_body_hash:
            raise CredentialUnavailable(
                "the body has not been read, so its hash is not known",
                "The body has to be signed for this target, and is too large for that.",
                "Send a smaller one.",
                is_request=True,
            )
        return UNSIGNED

    async def prepare(self) -> None:
        """There is nothing to fetch."""

    async def keep_fresh(self, log: Log) -> None:
        """Nor does anything end."""

    def invalidate(self) -> None:
        """A signature counts for one request anyway."""

    def reload(self) -> bool:
        keys = self._read()
        has_changed = keys != self._keys
        self._keys = keys
        return has_changed

    def _read(self) -> AwsKeys:
        login = self._login
        token = ""
        if login.session_token is not None:
            token = field_value(login.session_token, read_target_secret(login.session_token))
        return AwsKeys(login.access_key, read_target_secret(login.secret_key), token)
