"""The machine that a configuration counts on: sockets, directories, groups.

Owns what all protocols share. Opens no socket. Called by `proxyd.references.material`.
"""

from __future__ import annotations

import grp
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from policy.located_yaml import Path as DocumentPath
from proxyd.config import Config, HttpTargetLogin, Listener, SshListener, SshTarget
from proxyd.references.findings import Findings

_EVERYWHERE = frozenset({"0.0.0.0", "[::]"})  # noqa: S104 (no socket is bound here)
_FOREIGN_ACCESS = stat.S_IRWXO | stat.S_IWGRP  # as for secrets


def check_names(found: Findings) -> None:
    """What can be said without looking at the disk."""
    _addresses(found)
    _unreachable(found)
    endpoint = found.config.metrics
    if endpoint is not None and not endpoint.address.is_loopback:
        found.warn(
            ("metrics", "address"),
            "reachable from other machines, and asks nobody who they are",
            "use 127.0.0.1, or keep strangers out with a firewall",
        )


def check_places(found: Findings) -> None:
    _tapes(found)
    _admin(found)
    _keys(found)


def _addresses(found: Findings) -> None:
    taken: dict[str, str] = {}

    def take(path: DocumentPath, where: str, name: str) -> None:
        other = next((taken[known] for known in taken if _is_same_socket(known, where)), None)
        if other is not None:
            found.fault(path, f"taken by the listener `{other}`", "give each its own")
        elif not where.endswith(":0"):
            taken[where] = name

    for index, listener in enumerate(found.config.listeners):
        key, where = _socket_of(listener)
        take(("listeners", index, key), where, listener.name)
    metrics, admin = found.config.metrics, found.config.admin
    if metrics is not None:
        take(("metrics", "address"), str(metrics.address), "metrics")
    if admin is not None:
        take(("admin", "socket"), f"unix:{admin.socket}", "admin")


def _is_same_socket(one: str, other: str) -> bool:
    """Is one of the two in the other's way? `0.0.0.0` and `[::]` take the port from every address of their kind."""
    if one == other:
        return True
    (host, _, port), (other_host, _, other_port) = one.rpartition(":"), other.rpartition(":")
    if port != other_port or not port.isdigit() or port == "0":
        return False
    is_one_kind = host.startswith("[") == other_host.startswith("[")
    return is_one_kind and bool(_EVERYWHERE & {host, other_host})


def _socket_of(listener: Listener) -> tuple[str, str]:
    if listener.socket is not None:
        return "socket", listener.socket
    return "address", str(listener.address)


def _unreachable(found: Findings) -> None:
    """A listener and a target meet only when they speak the same."""
    spoken = {listener.protocol for listener in found.config.listeners}
    for index, target in enumerate(found.config.targets):
        if target.protocol not in spoken:
            found.warn(
                ("targets", index, "protocol"),
                f"no listener speaks {target.protocol}, so nobody can reach this target",
                "add such a listener, or remove the target",
            )


def _tapes(found: Findings) -> None:
    path: DocumentPath = ("tapes", "directory")
    directory = found.config.tapes.directory
    existing = next(place for place in (directory, *directory.parents) if place.exists())
    if not existing.is_dir():
        found.fault(path, f"{existing} is not a directory", "name a directory")
    elif not os.access(existing, os.W_OK | os.X_OK):
        found.fault(
            path,
            f"{existing} is not writable by this account",
            "give it to the account that runs proxyd: without tapes no session opens",
        )
    elif existing == directory and stat.S_IMODE(directory.stat().st_mode) & 0o022:
        found.warn(
            path,
            f"{directory} can be changed by other accounts, which could take tapes away",
            f"run: chmod go-w {directory}",
        )


def _keys(found: Findings) -> None:
    """Private keys of TLS, which are no secrets by the configuration's own word for it."""
    for path, key in _tls_keys(found.config):
        try:
            mode = stat.S_IMODE(key.stat().st_mode)
        except OSError:
            continue  # which whoever reads it says
        if mode & _FOREIGN_ACCESS:
            found.warn(path, f"{key} is open to other accounts (mode {mode:04o})", f"run: chmod 600 {key}")


def _tls_keys(config: Config) -> Iterator[tuple[DocumentPath, Path]]:
    for index, listener in enumerate(config.listeners):
        if not isinstance(listener, SshListener) and listener.tls is not None:
            yield ("listeners", index, "tls", "key"), listener.tls.key
    for index, target in enumerate(config.targets):
        if isinstance(target, SshTarget):
            continue
        if target.tls is not None and target.tls.key is not None:
            yield ("targets", index, "tls", "key"), target.tls.key
        for number, login in enumerate(target.logins):
            if isinstance(login, HttpTargetLogin) and login.certificate is not None:
                yield ("targets", index, "logins", number, "certificate", "key"), login.certificate.key


def _admin(found: Findings) -> None:
    admin = found.config.admin
    if admin is None:
        return
    if admin.group is not None:
        _admin_group(found, admin.group)
    path: DocumentPath = ("admin", "socket")
    directory = admin.socket.parent
    if admin.socket.exists() and not admin.socket.is_socket():
        found.fault(path, f"{admin.socket} is there, and no socket", "name a path that is free")
    elif not directory.exists():
        # systemd makes RuntimeDirectory= when the service starts, so a check before that cannot see it.
        found.warn(path, f"{directory} is not there", "make it, or let RuntimeDirectory= of the unit make it")
    elif not os.access(directory, os.W_OK | os.X_OK):
        found.fault(
            path, f"{directory} is not writable by this account", "give it to the account that runs proxyd"
        )
    elif _is_open_to_others(directory):
        found.warn(
            path,
            f"{directory} can be changed by other accounts, which could put their own socket there",
            f"run: chmod go-w {directory}",
        )


def _is_open_to_others(directory: Path) -> bool:
    mode = directory.stat().st_mode
    return bool(mode & (stat.S_IWGRP | stat.S_IWOTH)) and not mode & stat.S_ISVTX


def _admin_group(found: Findings, name: str) -> None:
    path: DocumentPath = ("admin", "group")
    try:
        group = grp.getgrnam(name).gr_gid
    except KeyError:
        found.fault(path, f"there is no group `{name}` on this machine", "make it, or name another")
        return
    # chown(2): only root may give a file to a group of which it is not a member.
    if os.geteuid() != 0 and group not in {os.getegid(), *os.getgroups()}:
        found.fault(
            path,
            f"this account is not in the group `{name}`, so it cannot give the socket to it",
            "add the account that runs proxyd to the group",
        )
