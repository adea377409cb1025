"""The data that a client signs to prove that it has a key (RFC 4252 section 7), read back.

Owns checking that what was signed is the request that is being answered: this user, this service, this key, by an
algorithm that goes with both. asyncssh builds the data from the request itself; that it did is not taken on trust here.
Pure. Called by `proxyd.identity.ssh`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from proxyd.ssh_blobs import BlobError, Fields, algorithm_of, algorithms_agree

_USERAUTH_REQUEST: Final = 50
_SERVICE: Final = b"ssh-connection"
_METHOD: Final = b"publickey"
_MIN_SESSION_ID_BYTES: Final = 20  # the shortest hash of a key exchange


@dataclass(frozen=True, slots=True)
class SignedRequest:
    user: bytes
    service: bytes
    method: bytes
    has_signature: bool
    algorithm: str
    key_blob: bytes

    @classmethod
    def read(cls, signed: bytes) -> Self:
        """Raises BlobError."""
        fields = Fields(signed)
        if len(fields.string()) < _MIN_SESSION_ID_BYTES:
            raise BlobError("the signed data does not begin with a session identifier")
        if fields.byte() != _USERAUTH_REQUEST:
            raise BlobError("the signed data is not a request for authentication")
        user, service, method = fields.string(), fields.string(), fields.string()
        request = cls(user, service, method, fields.byte() == 1, fields.name(), fields.string())
        fields.end()
        return request

    def check(self, user: str, key_blob: bytes, signature_algorithm: str) -> None:
        """Raises BlobError unless this is a request of `user` with the key or certificate in `key_blob`.

        asyncssh prepares user names (RFC 4013), so that another spelling can reach us under this name; it is refused.
        """
        if self.user != user.encode("utf-8", "surrogatepass"):
            raise BlobError("the signature is for another user name")
        if self.service != _SERVICE or self.method != _METHOD or not self.has_signature:
            raise BlobError("the signature is for another kind of request")
        if self.key_blob != key_blob:
            raise BlobError("the signature is for another key")
        if not algorithms_agree(self.algorithm, algorithm_of(key_blob), signature_algorithm):
            raise BlobError(f"the request names {self.algorithm}, and the signature is {signature_algorithm}")
