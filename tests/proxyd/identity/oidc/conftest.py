"""Hundreds of `Tokens` are made here: the machine's authorities are read for the first alone."""

from __future__ import annotations

import ssl
from functools import cache

import pytest

from proxyd.config import Issuer
from proxyd.identity.oidc import verifier
from proxyd.identity.oidc.documents import tls_context


@cache
def _context(authority: object) -> tuple[ssl.SSLContext, bytes]:
    return ssl.create_default_context(), b""


@pytest.fixture(autouse=True)
def _one_context(monkeypatch: pytest.MonkeyPatch) -> None:
    def found(issuer: Issuer) -> tuple[ssl.SSLContext, bytes]:
        return _context(issuer.ca) if issuer.ca == "system" else tls_context(issuer)

    monkeypatch.setattr(verifier, "tls_context", found)
