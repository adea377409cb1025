"""Child processes that end with us, however we end.

Owns: starting a server so that it never outlives its owner, and stopping it step by step. Used for
PostgreSQL, sshd, the demo's SSH host, the gateway and PgBouncer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from demo.postgres_installs import Account

STEP_TIMEOUT_S = 60.0

# The watcher is a grandchild that init adopts, so that the server never sees it as a child of its own. It
# holds a pipe from us: when we die the pipe closes, and it stops the server. It is told "leave" once the
# server has been reaped, because its process id may then be somebody else's.
_LAUNCH = """
exec 3<&0 </dev/null
( ( read -r word; [ "$word" = leave ] || kill -INT $$ ) <&3 >/dev/null 2>&1 & )
exec 3<&-
exec "$@"
"""


def launch(
    command: Sequence[str],
    *,
    log: IO[bytes],
    cwd: Path,
    env: Mapping[str, str],
    account: Account | None = None,
) -> subprocess.Popen[bytes]:
    """Start `command`, its output in `log`. End it with `end`, which also sends its watcher away."""
    return subprocess.Popen(
        ["/bin/sh", "-c", _LAUNCH, command[0], *command],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
        cwd=cwd,
        env=dict(env),
        start_new_session=True,  # Ctrl-C is ours to pass on
        **(account or Account()).subprocess_arguments(),
    )


def end(
    process: subprocess.Popen[bytes],
    steps: Sequence[signal.Signals] = (signal.SIGTERM, signal.SIGKILL),
    step_timeout_s: float = STEP_TIMEOUT_S,
) -> int | None:
    """Send each signal in turn until the process is gone; give its exit status (None: it outlived them
    all).
    """
    for number in steps:
        process.send_signal(number)
        try:
            process.wait(step_timeout_s)
            break
        except subprocess.TimeoutExpired:
            continue
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            os.write(process.stdin.fileno(), b"leave\n")
        process.stdin.close()
    return process.returncode
