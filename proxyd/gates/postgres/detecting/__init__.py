"""Detectors over what a PostgreSQL target answers: values by type and format, rows, COPY data. No I/O."""
