"""AWS Signature Version 4: the canonical request and its signature. Pure arithmetic; nothing here reads or waits.

After "Create a signed AWS API request" of AWS's IAM user guide; the steps bear its names. Compared in the tests with
AWS's own vectors and with botocore. Used by `proxyd.http_credentials.aws`.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from protocols.http.messages import Headers

ALGORITHM = "AWS4-HMAC-SHA256"

_BLANKS = re.compile(r"[ \t]+")


@dataclass(frozen=True, slots=True)
class AwsKeys:
    """`ends_at`: Unix seconds; None where that is not known."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str = field(default="", repr=False)
    ends_at: float | None = None


@dataclass(frozen=True, slots=True)
class AwsScope:
    """Where a signature counts. S3 takes paths as they are; the other services normalise and encode them once more."""

    region: str
    service: str

    @property
    def is_s3(self) -> bool:
        return self.service == "s3"


def sign(
    keys: AwsKeys,
    scope: AwsScope,
    method: str,
    target: str,
    headers: Headers,
    payload_hash: str,
    amz_date: str,
) -> str:
    """The value of `Authorization`. `headers`: those that are signed, in lower case, `host` among them."""
    names, request = canonical_request(scope, method, target, headers, payload_hash)
    credential_scope = f"{amz_date[:8]}/{scope.region}/{scope.service}/aws4_request"
    text = string_to_sign(request, amz_date, credential_scope)
    signature = _hmac(_signing_key(keys.secret_key, amz_date[:8], scope), text).hex()
    return f"{ALGORITHM} Credential={keys.access_key}/{credential_scope}, SignedHeaders={names}, Signature={signature}"


def canonical_request(
    scope: AwsScope, method: str, target: str, headers: Headers, payload_hash: str
) -> tuple[str, str]:
    """The names of the signed headers, and the text that is hashed."""
    path, _, query = target.partition("?")
    collected: dict[str, list[str]] = {}
    for name, value in headers:
        collected.setdefault(name, []).append(_BLANKS.sub(" ", value).strip())
    names = ";".join(sorted(collected))
    lines = "".join(f"{name}:{','.join(collected[name])}\n" for name in sorted(collected))
    parts = (method, canonical_path(path, scope), canonical_query(query), lines, names, payload_hash)
    return names, "\n".join(parts)


def string_to_sign(request: str, amz_date: str, credential_scope: str) -> str:
    """Field values are bytes that were read as Latin-1, see `protocols.http.messages`; the rest is ASCII."""
    digest = hashlib.sha256(request.encode("latin-1")).hexdigest()
    return "\n".join((ALGORITHM, amz_date, credential_scope, digest))


def canonical_path(path: str, scope: AwsScope) -> str:
    if scope.is_s3:
        return _encode(unquote_to_bytes(path), safe="/") or "/"
    return _encode(_without_dots(path).encode(), safe="/")


def canonical_query(query: str) -> str:
    """Sorted by what is encoded. A plus is a blank to the servers, which decode before they encode."""
    pairs = [piece.partition("=") for piece in query.split("&") if piece]
    return "&".join(
        f"{name}={value}" for name, value in sorted((_form(name), _form(value)) for name, _, value in pairs)
    )


def amz_date(now: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4, and no empty segments."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    is_directory = bool(kept) and path.endswith(("/", "/.", "/.."))
    return "/" + "/".join(kept) + ("/" if is_directory else "")


def _form(text: str) -> str:
    return _encode(unquote_to_bytes(text.replace("+", " ")))


def _encode(value: bytes, safe: str = "") -> str:
    return quote(value, safe=f"{safe}-._~")


def _signing_key(secret_key: str, day: str, scope: AwsScope) -> bytes:
    key = _hmac(f"AWS4{secret_key}".encode(), day)
    for part in (scope.region, scope.service, "aws4_request"):
        key = _hmac(key, part)
    return key


def _hmac(key: bytes, text: str) -> bytes:
    return hmac.new(key, text.encode(), hashlib.sha256).digest()
