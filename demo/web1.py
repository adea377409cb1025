"""web1, the demo's SSH target: a small web server's files, and the host that they are on.

Owns the home in which every session on web1 begins, what is in it, and the host: a real sshd where there is one,
otherwise the demo's own (`ssh_host`). Lets in whoever has a certificate of the gateway's authority.
"""

from __future__ import annotations

import grp
import os
import shlex
from pathlib import Path

from demo.ssh_host import HOST, OwnHost
from demo.ssh_pki import SshPki
from demo.sshd import SSHD, SshServer

AUTHORITY = "gateway_ca"
HOST_KEY = "web1_host"

# Sessions of a real account begin in its home; these begin here. OpenSSH's ForceCommand has the command in a variable.
_START = """\
# What every session on web1 begins with: its home, then the command or a shell.
cd "$HOME" || exit
[ -z "$SSH_ORIGINAL_COMMAND" ] || exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"
PATH="$HOME/bin:$PATH"
export PATH
exec bash --noprofile --rcfile "$HOME/.bashrc"
"""

# A prompt that says nothing about this machine.
_BASHRC = """\
PS1='\\[\\e[1;32m\\]deploy@web1\\[\\e[0m\\]:\\[\\e[1;34m\\]\\w\\[\\e[0m\\]$ '
alias ls='ls --color=auto'
unset HISTFILE PROMPT_COMMAND MAIL
"""

# A program that fills the screen, and is there on every machine. Bars are blanks with a background.
_VISITORS = """\
#!/bin/sh
# visitors: requests by hour, full screen.
draw() {
    size=$(stty size)
    rows=${size% *} columns=${size#* }
    printf '\\r\\033[K\\033[2J\\033[H\\033[1m Requests by hour\\033[0m'
    printf '  (%s columns, %s rows)\\r\\n\\r\\n' "$columns" "$rows"
    for hour in 08 09 10 11 12 13 14 15; do printf ' %s:00\\r\\n' "$hour"; done
}
trap 'printf "\\r\\033[K\\033[?25h\\033[?1049l"' EXIT
printf '\\033[?1049h\\033[?25l'
trap draw WINCH
draw
step=1
while [ "$step" -le 12 ]; do
    line=3
    for full in 12 19 31 44 27 36 58 41; do
        length=$((full * step * columns / 12 / 75))
        colour=$((41 + full / 12))
        printf '\\033[%s;8H\\033[%sm%*s\\033[0m' "$line" "$colour" "$length" ''
        line=$((line + 1))
    done
    step=$((step + 1))
    sleep 0.12
done
sleep 0.6
"""

FILES = {
    ".bashrc": _BASHRC,
    ".start": _START,
    "bin/visitors": _VISITORS,
    "www/index.html": "<!doctype html>\n<title>The shop</title>\n<h1>Lamps, chairs, tables</h1>\n",
    "www/prices.csv": "product,price\nlamp,39.90\nchair,120.00\ntable,480.00\n",
    "www/.env": "PAYMENT_KEY=not-for-your-eyes-7f3a\n",
    "log/access.log": "".join(
        f'198.51.100.{n} - - [21/Nov/2026:08:0{n}:12 +0000] "GET /{page} HTTP/1.1" 200 {size}\n'
        for n, page, size in ((1, "", 69), (2, "prices.csv", 58), (3, "", 69), (4, "prices.csv", 58))
    ),
}
SECRETS = ("not-for-your-eyes-7f3a",)


def has_usable_sshd() -> bool:
    """Is there one that can give terminals? An ordinary account cannot make a terminal the group tty's, as sshd wants
    it, and in a container it may not be that already.
    """
    if not SSHD.exists() or os.geteuid() == 0:
        return SSHD.exists()
    ours, theirs = os.openpty()
    try:
        return grp.getgrgid(os.fstat(theirs).st_gid).gr_name == "tty"
    except KeyError:
        return False
    finally:
        os.close(ours)
        os.close(theirs)


class Web1:
    """The host. Call `start` and `stop`; its files are below `home` and stay."""

    def __init__(self, home: Path, *, has_sshd: bool) -> None:
        self.home = home
        self._has_sshd = has_sshd
        self._server: SshServer | OwnHost | None = None

    @property
    def kind(self) -> str:
        """What sort of a host it is, for the tour to say."""
        return "a real sshd" if self._has_sshd else "the demo's own SSH host (for want of an sshd)"

    @property
    def login(self) -> str:
        """The account on it."""
        return self._running.login

    @property
    def port(self) -> int:
        return self._running.port

    @property
    def is_running(self) -> bool:
        return self._server is not None and self._server.is_running

    def log_text(self) -> str:
        return self._running.log_text()

    def start(self, pki: SshPki) -> None:
        """Write its files and start it; the keys are made already. Raises SshdFailed or HostFailed."""
        for name, text in FILES.items():
            path = self.home / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (self.home / "bin/visitors").chmod(0o755)
        start_script = self.home / ".start"
        if self._has_sshd:
            self._server = SshServer(
                user_authorities=[pki.public(AUTHORITY)],
                settings=[f"ForceCommand /bin/sh {shlex.quote(str(start_script))}"],
                own_home=self.home,
            )
        else:
            self._server = OwnHost(
                directory=pki.directory,
                host_key_file=pki.make(HOST_KEY),
                user_authority=pki.public_file(AUTHORITY),
                home=self.home,
                start_script=start_script,
            )
        self._server.start()

    def known_hosts_line(self, pki: SshPki) -> str:
        if isinstance(self._running, SshServer):
            return self._running.known_hosts_line
        return f"[{HOST}]:{self.port} {pki.public(HOST_KEY)}"

    def stop(self) -> None:
        """May be called twice."""
        if self._server is not None:
            self._server.stop()

    @property
    def _running(self) -> SshServer | OwnHost:
        if self._server is None:
            raise RuntimeError("web1 has not been started")
        return self._server
