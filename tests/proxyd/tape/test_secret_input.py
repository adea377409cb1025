from __future__ import annotations

import pytest

from policy.facts import SimpleCommand, SshFacts, SshOperation, Word
from proxyd.tape.secret_input import reads_secret
from tests.proxyd.tape.ssh_tapes import SFTP, SHELL, command


@pytest.mark.parametrize(
    "text",
    [
        "sudo -S id",
        "sudo -HSn -u root id",
        "/usr/bin/sudo --stdin id",
        "su",
        "/bin/su - root",
        "passwd",
        "chpasswd -e",
        "sshpass ssh x",
        "cryptsetup luksOpen /dev/x y",
        "docker login -u me --password-stdin",
        "gpg --passphrase-fd 0",
        "gh auth login --with-token",
        "kubectl create secret generic x --from-file=/dev/stdin",
    ],
)
def test_commands_that_read_a_secret(text: str) -> None:
    assert reads_secret(command(text))


@pytest.mark.parametrize(
    "text",
    ["cat", "sudo id", "sudo -n id", "git-receive-pack x.git", "rsync --server -e.LsfxCIvu . x", "python3 -"],
)
def test_commands_that_do_not(text: str) -> None:
    assert not reads_secret(command(text))


def test_what_a_command_runs_itself_is_looked_at() -> None:
    inner = SimpleCommand((Word("sudo"), Word("-S"), Word("id")))
    outer = SimpleCommand((Word("nice"),), inner=(SimpleCommand((Word("sh"),), inner=(inner,)),))
    assert reads_secret(SshFacts(SshOperation.EXEC, "nice sh -c 'sudo -S id'", (outer,)))


def test_what_cannot_be_seen_might_read_one() -> None:
    assert reads_secret(command("cat", unresolved=("too deep",)))
    hidden = SimpleCommand((Word("$CMD", is_known=False), Word("x")))
    assert reads_secret(SshFacts(SshOperation.EXEC, "$CMD x", (hidden,)))


def test_a_shell_and_a_subsystem_do_not() -> None:
    assert not reads_secret(SHELL)
    assert not reads_secret(SFTP)
    assert not reads_secret(SshFacts(SshOperation.EXEC, "X=1", (SimpleCommand((), ("X",)),)))


def test_commands_nested_deep() -> None:
    one = SimpleCommand((Word("su"),))
    for _ in range(5000):
        one = SimpleCommand((Word("sh"),), inner=(one,))
    assert reads_secret(SshFacts(SshOperation.EXEC, "sh -c ...", (one,)))
