"""Both ends of a TLS connection in one process, for the TLS tests."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import trio

from proxyd.tls import TlsStream
from proxyd.tls_contexts import ClientTls, ClientTlsSettings, ServerTls, ServerTlsSettings
from proxyd.tls_engine import TlsEngine
from tests import pki


@dataclass(frozen=True)
class World:
    """A root, an intermediate below it that issues people, a gateway's certificate and alice's, all on
    disk.
    """

    directory: Path
    root: pki.Authority
    people: pki.Authority
    gateway: pki.Files
    alice: pki.Files
    bundle: Path

    @classmethod
    def in_directory(cls, directory: Path) -> World:
        root = pki.Authority.root()
        people = root.intermediate("Test people CA")
        gateway = root.issue("gateway", dns=["gateway.test"], ips=["127.0.0.1"], purpose=pki.SERVER)
        return cls(
            directory=directory,
            root=root,
            people=people,
            gateway=gateway.write(directory),
            alice=people.issue("alice", purpose=pki.CLIENT).write(directory),
            bundle=root.write_bundle(directory / "ca.crt"),
        )

    @property
    def server(self) -> ServerTlsSettings:
        return ServerTlsSettings(self.gateway.certificate, self.gateway.key, client_ca=self.bundle)

    @property
    def client(self) -> ClientTlsSettings:
        return self.client_as(self.alice)

    def client_as(self, files: pki.Files | None) -> ClientTlsSettings:
        settings = ClientTlsSettings(mode="verify-full", ca=self.bundle)
        if files is None:
            return settings
        return replace(settings, certificate=files.certificate, key=files.key)

    def write_crl(self, *, expired: bool = False) -> Path:
        return self.root.write_crl(self.directory / "ca.crl", self.people, expired=expired)


def client_engine(settings: ClientTlsSettings, host: str = "gateway.test") -> TlsEngine:
    return ClientTls(settings).engine(host)


def shake_hands(client: TlsEngine, server: TlsEngine) -> None:
    """Carry the flights to and fro until neither end has more to say. Raises what an end raises."""
    for _ in range(10):
        client.handshake()
        to_server = client.take_outgoing()
        server.feed_ciphertext(to_server)
        server.handshake()
        to_client = server.take_outgoing()
        client.feed_ciphertext(to_client)
        if not to_server and not to_client:
            return
    raise RuntimeError("the handshake does not end")


def engines(world: World, server: ServerTlsSettings | None = None) -> tuple[TlsEngine, TlsEngine]:
    """A client's and a server's engine with the handshake behind them."""
    client_end = client_engine(world.client)
    server_end = ServerTls(server or world.server).engine()
    shake_hands(client_end, server_end)
    return client_end, server_end


async def shake_hands_on(client: TlsStream, server: TlsStream) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: client.do_handshake(timeout_s=5))
        nursery.start_soon(lambda: server.do_handshake(timeout_s=5))
