"""HTTP/1.1 and 1.0 from bytes to messages (RFC 9112): requests of clients, responses of targets.

Theory of operation. A reader is fed what came and asked for events until it says None. It reads one message: after
MessageEnded it stays put, keeping what came behind, until it is told of the next (`start_next`, `expect`). A head is
read when it is whole: its first line by one expression, its field lines one by one (`http1_fields`), so that no byte of
it goes unseen. Whatever two known servers read in two ways is refused. What a head says of framing decides once how the
body is read (`http1_bodies`).

Must never repair a message, and never pass on a byte of a head as it came: senders write heads anew
(`http1_writing`). Raises RemoteProtocolError and LimitExceeded with the HTTP status to answer as `code`; a reader that
has raised raises the same again. Called by the door (requests) and by the pool of targets (responses).
"""

from protocols.http.http1_reader import Http1Limits
from protocols.http.http1_requests import RequestReader
from protocols.http.http1_responses import ResponseReader
from protocols.http.http1_writing import chunk, last_chunk, request_head, response_head

__all__ = [
    "Http1Limits",
    "RequestReader",
    "ResponseReader",
    "chunk",
    "last_chunk",
    "request_head",
    "response_head",
]
