"""The bench: what the gateway costs, beside a direct connection and PgBouncer, in one run."""
