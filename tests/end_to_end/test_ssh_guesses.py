"""Clients that send the first packet of a key exchange along with their lists, guessing what will be agreed upon.

RFC 4253, 7.1: the guess is wrong, and its packet to be passed over, unless both sides prefer the same. Dropbear's
client does so.
"""

from __future__ import annotations

import os

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.end_to_end.ssh_gateway import SshGateway
from tests.end_to_end.ssh_raw import SUCCESS, USER, RawClient, credential
from tests.end_to_end.ssh_wire import KEX_INIT, KEXINIT, SERVICE_ACCEPT, SERVICE_REQUEST
from tests.ssh_pki import string


class Guessing(RawClient):
    """`guess`: the packet that goes with the lists."""

    guess = b""

    def kexinit(self, *arguments: str) -> bytes:
        lists = super().kexinit(*arguments)
        return lists[:-5] + b"\1" + bytes(4) if self.guess else lists

    def send(self, *payloads: bytes) -> None:
        guess, self.guess = self.guess, b""
        super().send(*payloads, *([guess] if guess and payloads[0][0] == KEXINIT else []))
        if payloads[0][0] != KEXINIT:
            self.guess = guess


def test_a_wrong_guess_is_passed_over(ssh_gateway: SshGateway) -> None:
    """The gateway prefers another exchange than the only one of this client, and agrees to it."""
    for public in (X25519PrivateKey.generate().public_key().public_bytes_raw(), os.urandom(40)):
        with Guessing.plain(ssh_gateway) as client:
            client.guess = bytes([KEX_INIT]) + string(public)
            client.greet()
            client.exchange_keys()
            client.send(bytes([SERVICE_REQUEST]) + string("ssh-userauth"))
            assert client.receive()[0] == SERVICE_ACCEPT
            assert client.sign_in(USER, credential(ssh_gateway)) == SUCCESS
            assert client.run(b"echo hello") == (b"hello\n", b"", 0)
