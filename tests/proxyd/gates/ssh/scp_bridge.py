"""Stands in for ssh where scp runs it (`scp -O -S`): runs the remote command here, with the observer between.

python -m tests.proxyd.gates.ssh.scp_bridge LOG [ssh's options] HOST COMMAND
"""

from __future__ import annotations

import json
import os
import selectors
import shlex
import subprocess
import sys
from pathlib import Path

from proxyd.gates.files import FileContents, FileRecord
from proxyd.gates.scp import ScpObserver

PIECE_BYTES = 5000  # not what scp writes at once


def main(log_file: str, command: str) -> None:
    words = shlex.split(command)
    observer = ScpObserver("-t" if "-t" in words else "-f", contents=FileContents(3))
    records: list[FileRecord] = []
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as scp:
        if scp.stdin is None or scp.stdout is None:
            raise RuntimeError("no pipe")
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ, (observer.from_client, scp.stdin.fileno()))
        selector.register(scp.stdout.fileno(), selectors.EVENT_READ, (observer.from_target, 1))
        is_running = True
        while is_running:
            for key, _ in selector.select():
                data = os.read(key.fd, PIECE_BYTES)
                observe, other_end = key.data
                records += observe(data)
                if data:
                    os.write(other_end, data)
                elif key.fd == 0:
                    selector.unregister(0)
                    scp.stdin.close()
                else:
                    is_running = False
    ended = observer.ended
    records += observer.finish()
    entries = [
        [
            record.path,
            record.verb,
            record.byte_count,
            record.sha256,
            record.is_complete,
            record.content.decode(),
        ]
        for record in records
    ]
    Path(log_file).write_text(json.dumps({"files": entries, "ended": ended}))
    sys.exit(scp.returncode)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[-1])
