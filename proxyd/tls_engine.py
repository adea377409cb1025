"""TLS as a machine without I/O: ciphertext in, plaintext out, and the way back.

Owns one OpenSSL connection on two memory BIOs, and the reason when it ends badly. Never touches a socket,
never waits, never reads a file. `proxyd.tls.TlsStream` drives it for trio; the relay drives it by itself on
a non-blocking socket.

Theory of operation. Three facts shape this file.

1. *A record is either whole or not there.* Ciphertext is cut at TLS record borders (RFC 8446 section 5.1:
   type, version, two bytes of length) and only whole records are handed to OpenSSL. So it is known how
   often `SSL_read` has something to say, and the usual read never runs into "want read", which costs an
   exception and OpenSSL's error queue. The count is an upper bound: what was fed during the handshake, and
   records without data (a key update, a session ticket), make the last read answer "want read", and that
   resets it.

2. *The server's last flight waits for its first write.* In TLS 1.3 OpenSSL writes session tickets as soon
   as the client's Finished arrives. The client may not be reading: it thinks that the handshake is over.
   Sent at once, they block both sides on a transport without buffers. They cannot be dropped either,
   because records are numbered. So they are held, and go in front of the next bytes that leave.

3. *Nothing after the handshake needs to write in order to read.* Renegotiation is off (and any attempt ends
   the connection, since OpenSSL would queue one refusal for each), so one task may read while another one
   writes, and no lock is needed: each method is one synchronous step.

The data path calls the library that lies under pyOpenSSL, not its Connection methods: measured, that takes
a third of the time for a short message. Error paths go through pyOpenSSL. An engine belongs to the thread
that made it, because the engines of a thread share their scratch buffer.
"""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from cryptography import x509
from OpenSSL import SSL
from OpenSSL._util import ffi as _ffi
from OpenSSL._util import lib as _lib

MAX_RECORD_PLAINTEXT: Final = 1 << 14
# RFC 5246 section 6.2.3 allows 2048 bytes of overhead, RFC 8446 section 5.2 only 256; OpenSSL enforces the
# exact one.
MAX_RECORD_BODY: Final = MAX_RECORD_PLAINTEXT + 2048
RECORD_HEADER_BYTES: Final = 5
# Replies that OpenSSL has queued by itself (key updates). A peer that asks for more than this without ever
# letting us write is not talking, it is filling our memory.
MAX_UNSENT_BYTES: Final = 1 << 16
# What is encrypted between two reads of the outgoing BIO, which never shrinks: four full records.
_WRITE_SLICE: Final = 4 * MAX_RECORD_PLAINTEXT
_SCRATCH_BYTES: Final = 1 << 18

_HANDSHAKE_RECORD: Final = 22
_APPLICATION_RECORD: Final = 23
_FIRST_RECORD_TYPE: Final = 20

_SSL_write = _lib.SSL_write
_SSL_read = _lib.SSL_read
_BIO_write = _lib.BIO_write
_BIO_read = _lib.BIO_read
_buffer = _ffi.buffer


class TlsError(Exception):
    """TLS ended badly. `reason` is for the log and holds no secret and no plaintext."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class HandshakeError(TlsError):
    """No connection was made. `certificate` names the peer's certificate at fault ("" when that is not the
    cause).
    """

    def __init__(self, reason: str, certificate: str = "") -> None:
        super().__init__(reason)
        self.certificate = certificate


class NoSharedProtocol(Exception):
    """Raised in the ALPN callback; OpenSSL then answers with the alert no_application_protocol."""


@dataclass(slots=True)
class Verdict:
    """What the verification callback found: written during the handshake, read when it fails. Empty is good.

    Hangs on the connection, and so keeps what must live as long as it does.
    """

    context: SSL.Context
    reason: str = ""
    certificate: str = ""


class _Scratch(threading.local):
    def __init__(self) -> None:
        self.buffer = _ffi.new("char[]", _SCRATCH_BYTES)


_scratch = _Scratch()

# OpenSSL's words for handshake failures, in ours. Matched as parts of its reason texts.
_HANDSHAKE_REASONS: Final = {
    "peer did not return a certificate": "no client certificate",
    "unsupported protocol": "the peer's TLS version is not allowed",
    "wrong version number": "the peer does not speak TLS",
    "http request": "the peer does not speak TLS (an HTTP request)",
    "no shared cipher": "no cipher in common",
}


def _words(exc: SSL.Error) -> str:
    """OpenSSL's reasons for `exc`, the first one first."""
    if isinstance(exc, SSL.SysCallError):
        return "the peer closed the connection"
    entries = exc.args[0] if exc.args and isinstance(exc.args[0], list) else []
    return "; ".join(dict.fromkeys(entry[2] for entry in entries if entry[2])) or "unknown TLS failure"


class TlsEngine:
    """One TLS connection, sans-IO. Made by `proxyd.tls_contexts.ServerTls.engine` and `ClientTls.engine`."""

    __slots__ = (
        "_connection",
        "_failure",
        "_held",
        "_incoming",
        "_outgoing",
        "_records",
        "_scratch",
        "_ssl",
        "_tail",
        "_unframed",
        "_verdict",
        "is_established",
        "is_peer_closed",
        "is_server",
        "is_truncated",
    )

    def __init__(self, connection: SSL.Connection, verdict: Verdict, *, is_server: bool) -> None:
        raw: Any = connection
        self._connection = connection
        self._ssl = raw._ssl
        self._incoming = raw._into_ssl
        self._outgoing = raw._from_ssl
        self._scratch = _scratch.buffer
        self._verdict = verdict
        self._tail = b""  # the beginning of a record that is not whole yet
        self._records = 0  # upper bound of the records that OpenSSL has not opened yet
        self._unframed = False  # not TLS records: everything goes to OpenSSL, which says what is wrong
        self._held = b""
        self._failure: TlsError | None = None
        self.is_server = is_server
        self.is_established = False
        self.is_peer_closed = False  # close_notify or end of file has been read
        self.is_truncated = False  # ... and it was an end of file without close_notify

    # --- the handshake ----------------------------------------------------------------------------

    def handshake(self) -> bool:
        """Take the handshake as far as it goes. True when it is complete.

        Send what `take_outgoing` gives after every call, also after a HandshakeError: that is the alert
        which tells the peer why.
        """
        if self._failure is not None:
            raise self._failure
        if self.is_established:
            return True
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            if self.is_peer_closed:
                raise self._fail_handshake("the peer closed the connection") from None
            return False
        except SSL.Error as exc:
            raise self._fail_handshake(self._handshake_reason(exc)) from exc
        except NoSharedProtocol as exc:
            raise self._fail_handshake(str(exc)) from exc
        self.is_established = True
        if self.is_server and self._connection.get_protocol_version() >= SSL.TLS1_3_VERSION:
            self._held = self._read_outgoing()
        return True

    def _fail_handshake(self, reason: str) -> HandshakeError:
        failure = HandshakeError(reason, self._verdict.certificate)
        self._failure = failure
        return failure

    def _handshake_reason(self, exc: SSL.Error) -> str:
        if self._verdict.reason:
            return self._verdict.reason
        words = _words(exc)
        for theirs, ours in _HANDSHAKE_REASONS.items():
            if theirs in words:
                return ours
        return words

    # --- the data path ----------------------------------------------------------------------------

    def feed_ciphertext(self, data: bytes) -> None:
        """Take bytes that came from the peer, cut anywhere. Never raises for what they contain."""
        if self._failure is not None:
            return
        if self._tail:
            data = self._tail + data
            self._tail = b""
        size = len(data)
        whole = 0
        while size - whole >= RECORD_HEADER_BYTES and not self._unframed:
            body = data[whole + 3] << 8 | data[whole + 4]
            if data[whole] != _APPLICATION_RECORD or body > MAX_RECORD_BODY:
                self._examine(data[whole], body)
            end = whole + RECORD_HEADER_BYTES + body
            if end > size or self._failure is not None:
                break
            self._records += 1
            whole = end
        if self._unframed:
            whole = size
        elif whole < size:
            self._tail = data[whole:]
        if whole and _BIO_write(self._incoming, data, whole) != whole:
            self._failure = TlsError("OpenSSL took no ciphertext")

    def _examine(self, kind: int, body: int) -> None:
        """A record that is not plain application data: is it one at all, and may it come now?"""
        if not _FIRST_RECORD_TYPE <= kind <= _APPLICATION_RECORD or body > MAX_RECORD_BODY:
            self._unframed = True
            self._records += 1
        elif kind == _HANDSHAKE_RECORD and self.is_established:
            self._failure = TlsError("the peer asked to renegotiate, which is not allowed")

    def feed_eof(self) -> None:
        """The transport has ended. Without a close_notify before it, the end may have been cut off by
        anyone.
        """
        if not self.is_peer_closed:
            self.is_peer_closed = True
            self.is_truncated = True

    def read_plaintext(self) -> bytes:
        """All plaintext that is there; b"" when there is none (yet, or ever: see `is_peer_closed`).

        Raises TlsError when the connection is broken; plaintext that came before the fault is returned first.
        """
        if not self._records:
            if self._failure is not None:
                raise self._failure
            return b""
        scratch = self._scratch
        got = _SSL_read(self._ssl, scratch, MAX_RECORD_PLAINTEXT)
        if got > 0:
            self._records -= not self._unframed
            if not self._records:
                return _buffer(scratch, got)[:]  # type: ignore[no-any-return]
            return self._read_on(got)
        self._explain_read(got)
        if self._failure is not None:
            raise self._failure
        return b""

    def _read_on(self, filled: int) -> bytes:
        """Read the further records behind the `filled` bytes at the head of the scratch buffer."""
        scratch = self._scratch
        chunks: list[bytes] = []
        while self._records:
            if filled + MAX_RECORD_PLAINTEXT > _SCRATCH_BYTES:
                chunks.append(_buffer(scratch, filled)[:])
                filled = 0
            got = _SSL_read(self._ssl, scratch + filled, MAX_RECORD_PLAINTEXT)
            if got <= 0:
                self._explain_read(got)
                break
            self._records -= not self._unframed
            filled += got
        chunks.append(_buffer(scratch, filled)[:])
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _explain_read(self, result: int) -> None:
        """SSL_read gave nothing: note why. Whatever was fed has been opened."""
        self._records = 0
        try:
            self._connection._raise_ssl_error(self._ssl, result)
        except SSL.WantReadError:
            if _lib.BIO_get_mem_data(self._outgoing, _ffi.NULL) > MAX_UNSENT_BYTES:
                self._failure = TlsError("the peer asked for too many TLS replies without reading")
        except SSL.ZeroReturnError:
            self.is_peer_closed = True
        except SSL.Error as exc:
            self._failure = TlsError(_words(exc))

    def encrypt(self, plaintext: bytes | bytearray | memoryview) -> bytes:
        """The ciphertext to send for `plaintext`, with everything that had to go before it.

        Raises TlsError when the connection is broken, and before the handshake is complete.
        """
        if self._failure is not None:
            raise self._failure
        size = len(plaintext)
        if size > _WRITE_SLICE:
            view = memoryview(plaintext)
            return b"".join(
                [self.encrypt(view[at : at + _WRITE_SLICE]) for at in range(0, size, _WRITE_SLICE)]
            )
        if not self.is_established:
            raise TlsError("nothing can be sent before the TLS handshake")
        if size:
            self._write(plaintext, size)
        scratch = self._scratch
        got = _BIO_read(self._outgoing, scratch, _SCRATCH_BYTES)
        ciphertext: bytes = _buffer(scratch, got)[:] if got > 0 else b""
        if self._held and ciphertext:
            ciphertext = self._held + ciphertext
            self._held = b""
        return ciphertext

    def _write(self, plaintext: bytes | bytearray | memoryview, size: int) -> None:
        if type(plaintext) is bytes and size <= MAX_RECORD_PLAINTEXT:
            written = _SSL_write(self._ssl, plaintext, size)
            if written == size:
                return
            self._explain_write(written)
        with _ffi.from_buffer(plaintext) as start:
            done = 0
            while done < size:
                written = _SSL_write(self._ssl, start + done, size - done)
                if written <= 0:
                    self._explain_write(written)
                done += written

    def _explain_write(self, result: int) -> None:
        """SSL_write failed. To a memory BIO it cannot have to wait, so that is the end of the connection."""
        try:
            self._connection._raise_ssl_error(self._ssl, result)
        except SSL.Error as exc:
            self._failure = TlsError(_words(exc))
            raise self._failure from exc

    # --- the rest ---------------------------------------------------------------------------------

    def take_outgoing(self) -> bytes:
        """Ciphertext that waits to be sent: handshake messages, or the alert after a failure. b"" for none.

        Does not release the held last flight of a server by itself.
        """
        waiting = self._read_outgoing()
        if waiting and self._held:
            waiting = self._held + waiting
            self._held = b""
        return waiting

    def _read_outgoing(self) -> bytes:
        chunks: list[bytes] = []
        while (got := _BIO_read(self._outgoing, self._scratch, _SCRATCH_BYTES)) > 0:
            chunks.append(_buffer(self._scratch, got)[:])
        return b"".join(chunks)

    def close(self) -> bytes:
        """Say goodbye: the close_notify to send. b"" when there is nobody to say it to."""
        if self.is_established:
            with suppress(SSL.Error):  # after a failure there is no close_notify any more
                self._connection.shutdown()
        return self.take_outgoing()

    @property
    def peer_certificate(self) -> x509.Certificate | None:
        return self._connection.get_peer_certificate(as_cryptography=True)

    @property
    def peer_chain(self) -> tuple[x509.Certificate, ...]:
        """The chain as verified, the peer's own certificate first. Empty when nothing was verified."""
        return tuple(self._connection.get_verified_chain(as_cryptography=True) or ())

    @property
    def alpn_protocol(self) -> str | None:
        """The application protocol agreed on; None when the peer offered none."""
        return self._connection.get_alpn_proto_negotiated().decode("ascii") or None

    @property
    def sni(self) -> str | None:
        """The host name that the client asked for, as it sent it (on a client: as we sent it)."""
        name = self._connection.get_servername()
        return None if name is None else name.decode("ascii", "backslashreplace")

    @property
    def version(self) -> str:
        """The protocol version, as OpenSSL spells it: "TLSv1.2", "TLSv1.3"."""
        return self._connection.get_protocol_version_name()

    @property
    def cipher(self) -> str:
        return self._connection.get_cipher_name() or ""

    @property
    def is_resumed(self) -> bool:
        """Was the handshake shortened by an earlier session? On a server of ours it never is."""
        return bool(_lib.SSL_session_reused(self._ssl))
