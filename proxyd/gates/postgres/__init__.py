"""The PostgreSQL gate: messages of both sides in, actions out. No I/O, no clock, no transport."""
