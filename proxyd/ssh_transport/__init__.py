"""SSH's transport and authentication layers, by asyncssh, over trio streams: payloads in, payloads out.

The only package that knows that asyncssh is an asyncio library, and the only one that touches what lies below its
public names (the version is pinned in pyproject.toml; `tests/proxyd/ssh_transport/test_asyncssh_names.py` fails when
those names move). Used by `proxyd.ssh_door` for both legs of a session.

Theory of operation. asyncssh's connection is an asyncio protocol: it is given bytes, and writes bytes to a transport.
`Leg` is that transport, over a trio stream: one trio task reads the socket and feeds the connection, so that reading
stops when that task does and a cancelled session stops at once; what the kernel does not take is kept and sent by a
second task. asyncssh does version exchange, key exchange, ciphers, rekeying and user authentication. Each message of
the connection protocol (80 and above) is handed to `on_message` as it comes and never reaches asyncssh's own channels.
asyncssh's timers and small tasks run on one asyncio loop for the whole daemon, made by trio-asyncio (`asyncio_loop`).

    leg.py        the transport: reading, closing, what the door sees of a connection
    outgoing.py   what is written and the kernel has not taken
    relayed.py    what both kinds of asyncssh's connections get from us
    clients.py    the leg of a client, and who decides about its login
    targets.py    the leg of a target
    algorithms.py what is offered
    loop.py       the asyncio loop
"""

from proxyd.ssh_transport.algorithms import VERSION_PREFIX
from proxyd.ssh_transport.clients import Authenticator, serve_client, server_options
from proxyd.ssh_transport.leg import Leg, TransportLost
from proxyd.ssh_transport.loop import Loop, asyncio_loop, use_loop
from proxyd.ssh_transport.targets import connect_target

__all__ = [
    "VERSION_PREFIX",
    "Authenticator",
    "Leg",
    "Loop",
    "TransportLost",
    "asyncio_loop",
    "connect_target",
    "serve_client",
    "server_options",
    "use_loop",
]
