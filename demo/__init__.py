"""The demonstration: a real PostgreSQL, an SSH host, small authorities and the gateway between them."""
