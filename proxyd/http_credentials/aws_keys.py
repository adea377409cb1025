"""The keys that requests to AWS are signed with: those that stay, and those that another program writes anew.

Of the second kind are temporary keys, in one JSON document so that id, secret and token always belong together: what
`aws configure export-credentials` and every `credential_process` print, or what `aws sts assume-role` and an instance's
metadata answer. Called by `proxyd.http_credentials.aws`.
"""

from __future__ import annotations

from datetime import UTC, datetime

import msgspec

from proxyd.config import HttpSigV4, SecretSource
from proxyd.http_credentials.fixed import field_value
from proxyd.http_credentials.secrets import TargetCredentialError, read_target_secret
from proxyd.http_credentials.sigv4 import AwsKeys


class _Temporary(msgspec.Struct, rename="pascal"):
    access_key_id: str
    secret_access_key: str
    session_token: str = ""
    token: str = ""  # as an instance's metadata calls it
    expiration: datetime | None = None


class _Wrapped(msgspec.Struct, rename="pascal"):
    """What `aws sts` prints."""

    credentials: _Temporary


def read_keys(login: HttpSigV4) -> AwsKeys:
    """As they are now. Raises SettingsError. Blocks on the disk."""
    if login.credentials is not None:
        return _temporary(login.credentials)
    if login.secret_key is None or login.access_key is None:
        raise TypeError("keys that the configuration does not have")  # which its own check refuses
    token = ""
    if login.session_token is not None:
        token = field_value(login.session_token, read_target_secret(login.session_token))
    return AwsKeys(login.access_key, read_target_secret(login.secret_key), token)


def _temporary(source: SecretSource) -> AwsKeys:
    text = read_target_secret(source)
    try:
        found = msgspec.json.decode(text, type=_Temporary)
    except (msgspec.DecodeError, RecursionError):
        found = _wrapped(source, text)
    ends_at = None
    if found.expiration is not None:
        ends = found.expiration
        ends_at = (ends if ends.tzinfo is not None else ends.replace(tzinfo=UTC)).timestamp()
    return AwsKeys(
        field_value(source, found.access_key_id),
        found.secret_access_key,
        field_value(source, found.session_token or found.token),
        ends_at,
    )


def _wrapped(source: SecretSource, text: str) -> _Temporary:
    try:
        return msgspec.json.decode(text, type=_Wrapped).credentials
    except (msgspec.DecodeError, RecursionError):
        raise TargetCredentialError(
            source,
            "does not hold temporary keys in JSON",
            'write {"AccessKeyId": ..., "SecretAccessKey": ..., "SessionToken": ..., "Expiration": ...} into it, '
            "as `aws configure export-credentials` does",
        ) from None
