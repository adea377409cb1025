"""TLS towards a target: from the words of the configuration, which are libpq's, to the settings of a context.

Called by what connects to targets.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from proxyd.config import TargetTls
from proxyd.tls_contexts import ClientTlsSettings


def client_tls_settings(
    tls: TargetTls, alpn: tuple[str, ...], certificate: Path | None = None, key: Path | None = None
) -> ClientTlsSettings:
    """For a `tls` whose mode means TLS. `certificate` and `key`: a login's own, where `tls` has none."""
    mode: Literal["require", "verify-ca", "verify-full"] = "require"
    if tls.mode in {"verify-ca", "verify-full"}:
        mode = "verify-full" if tls.mode == "verify-full" else "verify-ca"
    elif tls.mode == "require" and tls.ca is not None:
        mode = "verify-ca"  # as libpq does: who names a CA means it
    ca = None if mode == "require" else tls.ca
    return ClientTlsSettings(mode, ca, tls.certificate or certificate, tls.key or key, alpn=alpn)
