"""Tapes: the recording of a session, append-only and chained by hash.

`format` is the bytes of a file, `frames` and `entries` what its frames mean; `recorder`, `ssh_taping` and
`http_taping` write, `reader` reads, `render` and the views show a tape to a person, `asciicast` and `har` to
other programs. See `format` for what the chain proves and what it does not.
"""

from proxyd.tape.entries import TapeHeader
from proxyd.tape.errors import TapeError

__all__ = ["TapeError", "TapeHeader"]
