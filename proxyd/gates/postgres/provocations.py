"""What the target is sent in place of a message that must fail there too.

The target fails at the same point as if it had been sent the message itself, so that its transaction and the rest of
the batch go the way they must, and the client is told the gateway's reason in place of the target's. Where the target
would have refused the message anyway, the provocation is of the same kind (an EXECUTE of a name nobody has in place of
an EXECUTE of a name that does not exist): its error then comes from the same place in the target, and, in a failed
transaction, is the same one. No I/O.
"""

from __future__ import annotations

from protocols.postgres.exchange import OwedKind
from protocols.postgres.message_types import Frontend
from protocols.postgres.messages import Bind, Describe, Execute, Parse, Query, frame
from proxyd.gates.postgres.denials import Denial

NOBODY = b"proxyd refused this name"
_UNPARSEABLE = b"proxyd refused this statement"
_NOT_UTF8 = b"\xff"
_TEXTS = {
    "22021": _NOT_UTF8,
    "26000": b'EXECUTE "%s"' % NOBODY,
    "34000": b'FETCH "%s"' % NOBODY,
}

FAILING_QUERY = Query(_UNPARSEABLE.decode()).encode()
FAILING_PARSE = Parse(NOBODY, _UNPARSEABLE.decode()).encode()


def in_place_of_query(denial: Denial) -> bytes:
    """A Query that fails."""
    if not denial.is_servers_answer:
        return FAILING_QUERY
    return frame(Frontend.QUERY, _TEXTS.get(denial.sqlstate, _UNPARSEABLE) + b"\0")


def in_place_of(
    kind: int, denial: Denial, *, describes: str = "", name: bytes = NOBODY
) -> tuple[OwedKind, bytes]:
    """A message of the extended protocol that fails, and what its reply is owed to.

    kind: of the message refused. describes: "S" or "P" for a Describe of a name that does not exist. name: one that
    the target does not have; b"" where the unnamed statement was asked for and has been closed.
    """
    if not denial.is_servers_answer:
        return OwedKind.PARSE, FAILING_PARSE
    if kind == Frontend.BIND and denial.sqlstate == "26000":
        return OwedKind.BIND, Bind(b"", name).encode()
    if kind == Frontend.DESCRIBE and describes == "S":
        return OwedKind.DESCRIBE_STATEMENT, Describe("S", name).encode()
    if kind == Frontend.DESCRIBE and describes == "P":
        return OwedKind.DESCRIBE_PORTAL, Describe("P", NOBODY).encode()
    if kind == Frontend.EXECUTE and denial.sqlstate == "34000":
        return OwedKind.EXECUTE, Execute(NOBODY).encode()
    text = _TEXTS.get(denial.sqlstate, _UNPARSEABLE)
    return OwedKind.PARSE, frame(Frontend.PARSE, NOBODY + b"\0" + text + b"\0\0\0")
