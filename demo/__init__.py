"""The demonstration: a real PostgreSQL, a small certificate authority and the gateway between them."""
