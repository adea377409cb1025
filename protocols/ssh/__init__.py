"""SSH: the connection protocol (RFC 4254), sftp version 3 and the legacy scp stream. No transport, no crypto."""
