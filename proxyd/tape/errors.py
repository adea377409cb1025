"""The one error of the tape package."""

from __future__ import annotations


class TapeError(Exception):
    """A tape could not be created, written, found or opened. The text is fit for a log line and for a
    person.

    From the recorder it means: the operation is not recorded and must not be forwarded, the session ends.
    """
