"""What goes wrong with the store. Raised by `proxyd.store`, met by everybody who asks it something."""

from __future__ import annotations


class StoreError(Exception):
    """The store cannot be opened, read or written. The text says why and what to do."""
