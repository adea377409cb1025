"""Wire codecs: bytes to messages and back. No socket, no clock, no policy (sans-IO)."""
