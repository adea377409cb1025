"""Requests signed for AWS, or for what speaks its S3.

Owns which fields are signed and how the body is vouched for: by its hash, or, for bodies that stream to S3 over TLS,
not at all. What the client has signed itself is not looked at and does not go on. Made by
`proxyd.http_credentials.choosing`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Final

import trio

from protocols.http.messages import Headers, RequestHead
from proxyd.config import HttpSigV4
from proxyd.http_credentials.aws_keys import read_keys
from proxyd.http_credentials.injecting import CredentialUnavailable, Injected
from proxyd.http_credentials.sigv4 import AwsScope, amz_date, sign
from proxyd.settings_files import SettingsError
from proxyd.telemetry import Log

REREAD_S: Final = 10.0

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
        self._keys = read_keys(login)

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        keys = self._keys  # one set, also when others are read meanwhile
        if keys.ends_at is not None and self._clock() >= keys.ends_at:
            raise CredentialUnavailable(
                "the temporary keys have ended, and no others have been written",
                "The gateway's own keys for this target have ended.",
                "Try again in a moment; if it stays so, tell the operators of the gateway.",
            )
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
        if keys.session_token:
            made.append(("x-amz-security-token", keys.session_token))
        signed: Headers = (("host", request.authority), *made, *self._signed_of(request.headers))
        made_at = made[0][1]
        authorization = sign(keys, self._scope, request.method, request.target, signed, payload_hash, made_at)
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
        """Temporary keys are another program's to renew: its file is looked at again and again."""
        if self._login.credentials is None or self._login.credentials.file is None:
            return
        fault = ""
        while True:
            await trio.sleep(REREAD_S)
            try:
                if await trio.to_thread.run_sync(self.reload):
                    log.info("other keys for a target")
                fault = ""
            except SettingsError as error:
                if str(error) != fault:  # said once
                    log.warning("the keys for a target cannot be read anew", reason=str(error))
                fault = str(error)

    def invalidate(self) -> None:
        """A signature counts for one request anyway."""

    def reload(self) -> bool:
        keys = read_keys(self._login)
        has_changed = keys != self._keys
        self._keys = keys
        return has_changed
