"""A small SSH certificate authority for tests: any key, any certificate, good or bad.

    ca = Authority.new()
    alice = Key.new()
    blob = ca.certify(alice, key_id="alice", principals=["deploy"])
    signed = request("deploy+web1", blob)
    signature = alice.sign(signed)

Certificates are put together here field by field (OpenSSH PROTOCOL.certkeys), so that faulty ones can be made; `Keygen`
makes the good ones by the real ssh-keygen, and tests hold the two against each other. Keys are Ed25519 unless told
otherwise. Certificates are valid from an hour ago for an hour unless told otherwise.
"""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import asyncssh
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ed25519, rsa

USER = 1
HOST = 2
HOUR = 3600
FOREVER = 0xFFFF_FFFF_FFFF_FFFF
SUFFIX = "-cert-v01@openssh.com"

# What ssh-keygen puts into a user certificate when it is told nothing.
DEFAULT_EXTENSIONS = (
    "permit-X11-forwarding",
    "permit-agent-forwarding",
    "permit-port-forwarding",
    "permit-pty",
    "permit-user-rc",
)

TOUCHED = 0x01
VERIFIED = 0x04


def string(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(4, "big") + data


def line(blob: bytes, comment: str = "test") -> str:
    """As in a .pub file."""
    length = int.from_bytes(blob[:4], "big")
    return f"{blob[4 : 4 + length].decode()} {base64.b64encode(blob).decode()} {comment}"


def fingerprint(blob: bytes) -> str:
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


@dataclass(frozen=True)
class Key:
    """A key in memory."""

    key: asyncssh.SSHKey

    @classmethod
    def new(cls, kind: str = "ssh-ed25519", bits: int | None = None) -> Self:
        if bits is None:
            return cls(asyncssh.generate_private_key(kind))
        made = rsa.generate_private_key(65537, bits) if kind == "ssh-rsa" else dsa.generate_private_key(bits)
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.TraditionalOpenSSL,
            serialization.NoEncryption(),
        )
        return cls(asyncssh.import_private_key(pem))

    @property
    def algorithm(self) -> str:
        return self.key.algorithm.decode()

    @property
    def blob(self) -> bytes:
        return self.key.public_data

    @property
    def line(self) -> str:
        return line(self.blob)

    @property
    def signature_algorithm(self) -> str:
        return "rsa-sha2-256" if self.algorithm == "ssh-rsa" else self.algorithm

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        return self.key.sign(data, (algorithm or self.signature_algorithm).encode())

    def write(self, path: Path, mode: int = 0o600) -> Path:
        """The private key into `path`, the public one beside it."""
        path.write_bytes(self.key.export_private_key("openssh"))
        path.chmod(mode)
        path.with_name(path.name + ".pub").write_text(self.line + "\n")
        return path


@dataclass(frozen=True)
class SecurityKey:
    """A hardware token (OpenSSH PROTOCOL.u2f, sk-ssh-ed25519): `flags` go into each signature."""

    secret: ed25519.Ed25519PrivateKey = field(default_factory=ed25519.Ed25519PrivateKey.generate)
    application: str = "ssh:"
    algorithm: str = "sk-ssh-ed25519@openssh.com"
    flags: int = TOUCHED

    @property
    def blob(self) -> bytes:
        public = self.secret.public_key().public_bytes_raw()
        return string(self.algorithm) + string(public) + string(self.application)

    @property
    def line(self) -> str:
        return line(self.blob)

    @property
    def signature_algorithm(self) -> str:
        return self.algorithm

    def sign(self, data: bytes, flags: int | None = None) -> bytes:
        tail = bytes([self.flags if flags is None else flags]) + (7).to_bytes(4, "big")
        message = hashlib.sha256(self.application.encode()).digest() + tail + hashlib.sha256(data).digest()
        return string(self.algorithm) + string(self.secret.sign(message)) + tail


@dataclass(frozen=True)
class Authority:
    """Signs certificates, of users and hosts."""

    key: Key

    @classmethod
    def new(cls, kind: str = "ssh-ed25519", bits: int | None = None) -> Self:
        return cls(Key.new(kind, bits))

    @property
    def blob(self) -> bytes:
        return self.key.blob

    @property
    def line(self) -> str:
        return self.key.line

    def certify(
        self,
        holder: Key | SecurityKey,
        key_id: bytes | str = "alice@example.com",
        principals: Sequence[bytes | str] = ("deploy",),
        *,
        kind: int = USER,
        serial: int = 1,
        valid_after: int | None = None,
        valid_before: int | None = None,
        options: Mapping[str, bytes] | Sequence[tuple[str, bytes]] = (),
        extensions: Sequence[str] | Mapping[str, bytes] = DEFAULT_EXTENSIONS,
        signer_blob: bytes | None = None,
        signature_algorithm: str | None = None,
        trailing: bytes = b"",
    ) -> bytes:
        """The certificate's bytes. `signer_blob`: what stands in it as the authority's key, if not its own."""
        now = int(time.time())
        name = holder.algorithm.removesuffix("@openssh.com") + SUFFIX
        listed = options.items() if isinstance(options, Mapping) else options
        extended = extensions.items() if isinstance(extensions, Mapping) else [(e, b"") for e in extensions]
        data = b"".join(
            (
                string(name),
                string(os.urandom(32)),
                holder.blob[4 + len(holder.algorithm) :],
                serial.to_bytes(8, "big"),
                kind.to_bytes(4, "big"),
                string(key_id),
                string(b"".join(string(principal) for principal in principals)),
                (now - HOUR if valid_after is None else valid_after).to_bytes(8, "big"),
                (now + HOUR if valid_before is None else valid_before).to_bytes(8, "big"),
                string(b"".join(string(each) + string(value) for each, value in listed)),
                string(b"".join(string(each) + string(value) for each, value in extended)),
                string(b""),
                string(self.blob if signer_blob is None else signer_blob),
            )
        )
        return data + string(self.key.sign(data, signature_algorithm)) + trailing

    def write(self, path: Path) -> Path:
        """The public key, as `client_ca` wants it."""
        path.write_text(self.line + "\n")
        return path


def option(text: str) -> bytes:
    """The value of an option that is a text, such as force-command."""
    return string(text)


def request(
    user: str | bytes,
    blob: bytes,
    algorithm: str | None = None,
    *,
    session: bytes = b"s" * 32,
    service: str = "ssh-connection",
    method: str = "publickey",
    has_signature: int = 1,
    trailing: bytes = b"",
) -> bytes:
    """What a client signs (RFC 4252 section 7). `algorithm`: by default what goes with the key or certificate."""
    length = int.from_bytes(blob[:4], "big")
    name = algorithm or blob[4 : 4 + length].decode("ascii").replace("ssh-rsa", "rsa-sha2-256")
    return b"".join(
        (
            string(session),
            bytes([50]),
            string(user),
            string(service),
            string(method),
            bytes([has_signature]),
            string(name),
            string(blob),
            trailing,
        )
    )


class Keygen:
    """The real ssh-keygen, in a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def run(self, *arguments: str | Path) -> str:
        done = subprocess.run(
            ["ssh-keygen", *map(str, arguments)],
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        return done.stdout

    def key(self, name: str, kind: str = "ed25519", bits: int | None = None) -> Path:
        """Makes NAME and NAME.pub."""
        size = () if bits is None else ("-b", str(bits))
        self.run("-q", "-t", kind, *size, "-N", "", "-C", name, "-f", name)
        return self.directory / name

    def sign(self, ca: Path, public: Path, key_id: str, *arguments: str) -> Path:
        """The path of the certificate. `arguments`: -n PRINCIPALS, -V VALIDITY, -O OPTION, -h, -z SERIAL."""
        self.run("-q", "-s", ca, "-I", key_id, *arguments, public)
        return public.with_name(public.name.removesuffix(".pub") + "-cert.pub")

    def load(self, private: Path) -> Key:
        return Key(asyncssh.read_private_key(private))

    @staticmethod
    def blob(path: Path) -> bytes:
        """Of a .pub or -cert.pub file."""
        return base64.b64decode(path.read_text().split()[1])
