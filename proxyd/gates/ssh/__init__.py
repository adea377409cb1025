"""The SSH gate: messages of the connection protocol in, actions out. No I/O, no clock, no transport."""
