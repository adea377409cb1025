"""PostgreSQL wire protocol 3.0 to 3.2, both directions."""
