"""HTTP: bytes to messages and back (RFC 9110, 9112, 9113, 6455), one reading of each message."""
