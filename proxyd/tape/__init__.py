"""Tapes: the recording of a session, append-only and chained by hash."""
