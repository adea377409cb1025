"""The transport layer of SSH by hand (RFC 4253), for peers that do what no library would: either end of a connection.

One suite: curve25519-sha256, ssh-ed25519, aes128-gcm@openssh.com, no compression. Everything blocks, under the
deadline of the socket. `send` takes any bytes for a payload; `send_raw` any bytes at all.
"""

from __future__ import annotations

import hashlib
import os
import socket
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tests.ssh_pki import Key, string

VERSION = "SSH-2.0-ByHand"
DISCONNECT, IGNORE, UNIMPLEMENTED, DEBUG, SERVICE_REQUEST, SERVICE_ACCEPT, EXT_INFO = range(1, 8)
KEXINIT, NEWKEYS, KEX_INIT, KEX_REPLY = 20, 21, 30, 31

KEX = "curve25519-sha256"
CIPHER = "aes128-gcm@openssh.com"
TAG_BYTES = 16
BLOCK_BYTES = 16


class Ended(Exception):
    """The other side has closed. `reason`: of its DISCONNECT, "" when it sent none."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "closed without a word")
        self.reason = reason


@dataclass
class _Cipher:
    key: AESGCM
    nonce: bytes

    def step(self) -> bytes:
        """This packet's nonce; the next one counts one up (RFC 5647, 7.1)."""
        nonce = self.nonce
        count = (int.from_bytes(nonce[4:], "big") + 1) % (1 << 64)
        self.nonce = nonce[:4] + count.to_bytes(8, "big")
        return nonce


class Wire:
    """`host_key`: of the server; with it this end is one."""

    def __init__(self, sock: socket.socket, host_key: Key | None = None) -> None:
        self.sock = sock
        self.host_key = host_key
        self.session_id = b""
        self.peer_version = ""
        self._buffer = bytearray()
        self._out: _Cipher | None = None
        self._in: _Cipher | None = None
        self._versions: tuple[bytes, bytes] = (b"", b"")  # the client's, the server's

    @property
    def is_server(self) -> bool:
        return self.host_key is not None

    def close(self) -> None:
        self.sock.close()

    # Packets

    def send_raw(self, data: bytes) -> None:
        self.sock.sendall(data)

    def packet(self, payload: bytes) -> bytes:
        """The payload as it goes over the wire; each is good for one use."""
        head = 0 if self._out is not None else 4
        padding = -(head + 1 + len(payload)) % BLOCK_BYTES
        padding += BLOCK_BYTES if padding < 4 else 0
        body = bytes([padding]) + payload + bytes(padding)
        length = len(body).to_bytes(4, "big")
        if self._out is None:
            return length + body
        return length + self._out.key.encrypt(self._out.step(), body, length)

    def send(self, *payloads: bytes) -> None:
        """All in one write."""
        self.send_raw(b"".join(map(self.packet, payloads)))

    def receive(self) -> bytes:
        """The next payload. Raises Ended at a DISCONNECT, at the end and at a reset."""
        while True:
            payload = self.receive_any()
            if payload[0] == KEXINIT:
                self.exchange_keys(payload)
            elif payload[0] not in {IGNORE, DEBUG, EXT_INFO}:
                return payload

    def receive_any(self) -> bytes:
        head = self._take(4)
        length = int.from_bytes(head, "big")
        if self._in is None:
            body = self._take(length)
        else:
            body = self._in.key.decrypt(self._in.step(), self._take(length + TAG_BYTES), head)
        payload = body[1 : len(body) - body[0]]
        if payload[0] == DISCONNECT:
            size = int.from_bytes(payload[5:9], "big")
            raise Ended(payload[9 : 9 + size].decode(errors="replace"))
        return payload

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        data = bytes(self._buffer[:count])
        del self._buffer[:count]
        return data

    def _more(self) -> None:
        try:
            data = self.sock.recv(256 * 1024)
        except ConnectionError:
            data = b""
        if not data:
            raise Ended
        self._buffer += data

    def read_to_end(self) -> bytes:
        """What comes until the other side closes, as it stands on the wire."""
        while True:
            try:
                self._more()
            except Ended:
                return bytes(self._buffer)

    # The beginning

    def greet(self, version: str = VERSION) -> None:
        """Both versions (RFC 4253, 4.2)."""
        self.send_raw(version.encode() + b"\r\n")
        while (line := self._line())[:4] != b"SSH-":
            pass
        self.peer_version = line.decode()
        own = version.encode()
        self._versions = (line, own) if self.is_server else (own, line)

    def _line(self) -> bytes:
        while b"\n" not in self._buffer:
            self._more()
        line, _, rest = bytes(self._buffer).partition(b"\n")
        self._buffer[:] = rest
        return line.rstrip(b"\r")

    def kexinit(self, kex: str = KEX) -> bytes:
        lists = [kex, "ssh-ed25519", CIPHER, CIPHER, "", "", "none", "none", "", ""]
        return bytes([KEXINIT]) + os.urandom(16) + b"".join(map(string, lists)) + bytes(5)

    def exchange_keys(self, theirs: bytes = b"") -> None:
        """A whole key exchange, the first or another. `theirs`: the other side's KEXINIT, when it has come already.

        What else comes meanwhile is thrown away.
        """
        ours = self.kexinit()
        self.send(ours)
        theirs = theirs or self._next(KEXINIT)
        if self.host_key is not None:
            self._as_server(self.host_key, theirs, ours)
        else:
            self._as_client(ours, theirs)

    def _next(self, number: int) -> bytes:
        while (payload := self.receive_any())[0] != number:
            pass
        return payload

    def _as_client(self, ours: bytes, theirs: bytes) -> None:
        own = X25519PrivateKey.generate()
        public = own.public_key().public_bytes_raw()
        self.send(bytes([KEX_INIT]) + string(public))
        host_key, point, _ = strings(self._next(KEX_REPLY)[1:])
        shared = own.exchange(X25519PublicKey.from_public_bytes(point))
        digest, secret = self._digest(ours, theirs, host_key, public, point, shared)
        self._switch(digest, secret)

    def _as_server(self, host_key: Key, theirs: bytes, ours: bytes) -> None:
        (point,) = strings(self._next(KEX_INIT)[1:])
        own = X25519PrivateKey.generate()
        public = own.public_key().public_bytes_raw()
        shared = own.exchange(X25519PublicKey.from_public_bytes(point))
        digest, secret = self._digest(theirs, ours, host_key.blob, point, public, shared)
        reply = string(host_key.blob) + string(public) + string(host_key.sign(digest))
        self.send(bytes([KEX_REPLY]) + reply)
        self._switch(digest, secret)

    def _digest(
        self,
        client: bytes,
        server: bytes,
        host_key: bytes,
        client_point: bytes,
        server_point: bytes,
        shared: bytes,
    ) -> tuple[bytes, bytes]:
        number = shared.lstrip(b"\0")
        secret = string((b"\0" if number[:1] > b"\x7f" else b"") + number)
        parts = (*self._versions, client, server, host_key, client_point, server_point)
        return hashlib.sha256(b"".join(map(string, parts)) + secret).digest(), secret

    def _switch(self, digest: bytes, secret: bytes) -> None:
        self.session_id = self.session_id or digest

        def derived(letter: bytes) -> bytes:
            return hashlib.sha256(secret + digest + letter + self.session_id).digest()

        to_server = _Cipher(AESGCM(derived(b"C")[:16]), derived(b"A")[:12])
        to_client = _Cipher(AESGCM(derived(b"D")[:16]), derived(b"B")[:12])
        self.send(bytes([NEWKEYS]))
        self._out = to_client if self.is_server else to_server
        self._next(NEWKEYS)
        self._in = to_server if self.is_server else to_client


def strings(data: bytes) -> list[bytes]:
    """Strings of RFC 4251 that follow each other to the end of `data`."""
    found = []
    while data:
        (size,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found


def strings_before(data: bytes, count: int) -> list[bytes]:
    """The first strings of `data`, whatever follows."""
    found = []
    for _ in range(count):
        (size,) = struct.unpack_from(">I", data)
        found.append(data[4 : 4 + size])
        data = data[4 + size :]
    return found
