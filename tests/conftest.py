"""Fixtures that more than one package of tests needs: real PostgreSQL servers, one of each kind for a test
run.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests.end_to_end.servers import (
    PostgresServer,
    TlsFiles,
    authentication_hba,
    create_roles,
    postgres_15,
    postgres_18,
)
from tests.pki import SERVER, Authority

# The same examples at every run, however slow the machine: a run says something of a change, not of its luck.
# `pytest --hypothesis-profile=search` looks for others.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("search", _patient)
settings.register_profile("suite", _patient, derandomize=True)
settings.load_profile("suite")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """A million objects that stay to the end: the collector of garbage need not look at them again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session")
def target_ca() -> Authority:
    """The authority of `pg15_tls`: its server certificate is from here, and so are clients that it trusts."""
    return Authority.root("Target CA")


@pytest.fixture(scope="session")
def pg18() -> Iterator[PostgresServer]:
    """PostgreSQL 18 without TLS, with `ROLES`."""
    with PostgresServer(postgres_18(), hba=authentication_hba(tls=False)) as server:
        create_roles(server)
        yield server


@pytest.fixture(scope="session")
def pg15_tls(target_ca: Authority) -> Iterator[PostgresServer]:
    """PostgreSQL 15 with TLS for `localhost` and 127.0.0.1 under `target_ca`, with `ROLES`."""
    credential = target_ca.issue("localhost", dns=["localhost"], ips=["127.0.0.1"], purpose=SERVER)
    tls = TlsFiles(credential.certificate_pem(), credential.key_pem(), target_ca.credential.certificate_pem())
    with PostgresServer(postgres_15(), hba=authentication_hba(tls=True), tls=tls) as server:
        create_roles(server)
        yield server
