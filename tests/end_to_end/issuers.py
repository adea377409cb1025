"""A real OpenID provider for the end-to-end tests, and gateways that take its tokens.

The provider is `oidc-provider` on Node, over TLS, as `demo.issuer` starts it. Its clients are agents: `alice` is in
the groups data and operators, `dora` in dba, `eve` in none; `brief`'s tokens live a few seconds, `long`'s are longer
than OpenSSH's client reads at once, `nameless` has no name. Each other is named by the claim `preferred_username`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.issuer import Client, LocalIssuer
from tests.end_to_end.running import HOST, Document
from tests.pki import SERVER, Authority

BRIEF_S = 4
SECRET = "a-secret-of-the-clients"


def _client(name: str, groups: Sequence[str], algorithm: str, *, seconds: int = 600, **claims: Any) -> Client:
    return Client(
        f"agent-{name}",
        SECRET,
        {"preferred_username": name, "groups": list(groups), "agent_kind": "test", **claims},
        algorithm,
        seconds,
    )


CLIENTS = (
    _client("alice", ["data", "operators"], "RS256"),
    _client("dora", ["dba"], "ES256"),
    _client("eve", [], "EdDSA"),
    Client(
        "brief", SECRET, {"preferred_username": "alice", "groups": ["dba", "operators"]}, "ES256", BRIEF_S
    ),
    Client("nameless", SECRET, {"groups": ["operators"]}),
    Client(
        "long",
        SECRET,
        {"preferred_username": "alice", "groups": ["operators"], "padding": "x" * 3000},
        "EdDSA",
    ),
)


@contextmanager
def running_issuer(directory: Path, audience: str = "proxyd") -> Iterator[LocalIssuer]:
    """Started, and of the real kind: a stand-in would prove little."""
    authority = Authority.root("Issuer's CA")
    files = authority.issue("localhost", dns=["localhost"], ips=[HOST], purpose=SERVER).write(directory)
    ca = directory / "ca.crt"
    authority.write_bundle(ca)
    issuer = LocalIssuer(directory, files.certificate, files.key, ca, CLIENTS, audience)
    issuer.start()
    try:
        if issuer.kind != "oidc-provider":
            raise AssertionError("oidc-provider is not there for Node: run .ci/node .node")
        yield issuer
    finally:
        issuer.stop()


def token(issuer: LocalIssuer, name: str) -> str:
    """A new token of the client of that name."""
    known = {client.id for client in issuer.clients}
    return issuer.token(name if name in known else f"agent-{name}")


def configured(issuer: LocalIssuer, **more: Any) -> Document:
    """The issuer, as an entry of `identity.issuers`."""
    return {
        "name": "company",
        "issuer": issuer.url,
        "audiences": ["proxyd"],
        "ca": str(issuer.ca),
        "claims": {"name": "preferred_username", "more": {"kind": "agent_kind"}},
        **more,
    }


def take_tokens(config: Document, issuer: LocalIssuer, factors: Sequence[Sequence[str]], **more: Any) -> None:
    """Have the first listener take `factors`. `more`: further keys of that listener."""
    config["identity"]["issuers"] = [configured(issuer)]
    listener = config["listeners"][0]
    listener.update(factors=[list(each) for each in factors], **more)
    if "tls" not in listener:
        return
    with_certificate = ["certificate" in each for each in factors]
    asked = "required" if all(with_certificate) else "optional" if any(with_certificate) else "none"
    listener["tls"]["client_certificates"] = asked
    if asked == "none":
        del listener["tls"]["client_ca"], listener["tls"]["crl"]
