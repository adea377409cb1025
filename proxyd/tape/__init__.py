"""Tapes: the recording of a session, append-only and chained by hash.

`format` is the bytes of a file, `entries` what its frames mean, `recorder` writes, `reader` reads, `render`
and `postgres` show a tape to a person. See `format` for what the chain proves and what it does not.
"""

from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError

__all__ = ["TapeError", "TapeHeader"]
