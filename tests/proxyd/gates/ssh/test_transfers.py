"""Which commands are taken for a transfer, whose output is neither looked into nor kept whole."""

from __future__ import annotations

import pytest

from proxyd.gates.ssh.judge import exec_facts
from proxyd.gates.ssh.transfers import is_transfer, scp_direction

SCP = {
    "scp -t /srv": "-t",
    "scp -f /srv/x": "-f",
    "scp -v -r -p -d -t -- /srv": "-t",
    "scp -rpt /srv": "-t",
    "scp -f -- -f": "-f",
    "scp -f '/srv/x y' /srv/z": "-f",
    "scp -f $x": "-f",
    "/usr/bin/scp -f /srv/x": "-f",
}


@pytest.mark.parametrize("text", SCP)
def test_the_far_end_of_an_scp(text: str) -> None:
    facts = exec_facts(text.encode(), has_pty=False)
    assert scp_direction(facts) == SCP[text]
    assert is_transfer(facts)


# These show what they like: a file on standard output, or what a program of the caller's choice says.
NO_TRANSFER = (
    "scp",
    "scp a b",
    "scp -- -f /dev/stdout",
    "scp secret /dev/stdout -f",
    "scp -F -t secret /dev/stdout",
    "scp -S ./program -t host:x /dev/stdout",
    "scp -o ProxyCommand=./program -f host:x y",
    "scp -t -S ./program",
    "scp -3f a b",
    "scp $x -f /srv/x",
    "A=b scp -f /srv/x",
    "scp -f /srv/x > /srv/y",
    "scp -f /srv/x; cat /srv/y",
    "scp -f `cat /srv/y`",
    "sudo scp -f /srv/x",
    "git --exec-path=/x upload-pack y",
    "git-upload-pack $x",
    "rsync -e ./program --server . /srv",
    "cat /srv/x",
    "/tmp/scp -f x",
    "./scp -f x",
    "/scp -f x",
    "bin/scp -t x",
    "/usr/bin/../../tmp/scp -t x",
    "/tmp/rsync --server . /srv",
    "/home/deploy/git-upload-pack x",
    "/tmp/sftp-server",
)


@pytest.mark.parametrize("text", NO_TRANSFER)
def test_what_only_looks_like_a_transfer(text: str) -> None:
    facts = exec_facts(text.encode(), has_pty=False)
    assert scp_direction(facts) is None
    assert not is_transfer(facts)


TRANSFERS = (
    "rsync --server --sender -logDtpre.iLsfxCIvu . /srv",
    "git-upload-pack '/srv/site.git'",
    "git receive-pack '/srv/site.git'",
    "/usr/lib/openssh/sftp-server -R",
)


@pytest.mark.parametrize("text", TRANSFERS)
def test_other_transfers(text: str) -> None:
    assert is_transfer(exec_facts(text.encode(), has_pty=False))
    assert not is_transfer(exec_facts(text.encode(), has_pty=True))
