"""Ways around a denied command, tried on the target's own shell: what a rule denies does not happen there, however it
is written. What such rules cannot stop stands here too, so that the documentation stays true.
"""

from __future__ import annotations

import base64
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end.conftest import SshGatewayFactory
from tests.end_to_end.ssh_gateway import EVERYTHING_BY_SSH, SshGateway
from tests.end_to_end.ssh_raw import RawClient
from tests.end_to_end.ssh_route import SshRoute, run
from tests.ssh_pki import string

REFUSED = 126
LOST = 255


def allowing(section: str, *more: str) -> str:
    """A policy whose one allow rule has this section of ssh; `more`: further rules, each on one line."""
    return f"""\
version: 1
roles:
  operator: {{groups: [operators]}}
access:
  - name: everywhere
    roles: [operator]
    targets: {{protocol: ssh}}
    logins: [deploy]
rules:
  - name: what-is-needed
    effect: allow
    roles: [operator]
    ssh: {section}
""" + "".join(f"  - {rule}\n" for rule in more)


NO_RM = EVERYTHING_BY_SSH + '  - {name: no-rm, effect: deny, ssh: {exec: ["rm *"]}}\n'
NO_SHELL = EVERYTHING_BY_SSH + "  - {name: no-shell, effect: deny, ssh: {shell: true}}\n"


class Person:
    """Somebody with one connection, and a file that is not to be removed."""

    def __init__(self, client: RawClient, directory: Path) -> None:
        self.client = client
        self.directory = directory
        self.canary = directory / "canary"

    def tries(self, text: str) -> tuple[bool, int | None, bytes]:
        """Run a text in which FILE is the canary, DIR its directory, B64 the removal in base64; is the file still there
        afterwards? And the status, and what was said."""
        self.canary.write_text("here")
        removal = base64.b64encode(f"rm {self.canary}".encode()).decode()
        text = (
            text.replace("FILE", str(self.canary)).replace("DIR", str(self.directory)).replace("B64", removal)
        )
        _, said, status = self.client.run(text.encode())
        return self.canary.exists(), status, said


@pytest.fixture(scope="module")
def careful_gateway(
    ssh_gateway: SshGateway, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SshGateway]:
    """Everything but `rm`."""
    directory = tmp_path_factory.mktemp("careful")
    with SshGateway(ssh_gateway.server, directory, ssh_gateway.keys, policy=NO_RM) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def person(careful_gateway: SshGateway, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    with RawClient.logged_in(careful_gateway) as client:
        yield Person(client, tmp_path_factory.mktemp("removal"))


SPELLINGS = r"""
rm FILE
rm -- FILE
rm -rf FILE
/bin/rm FILE
//bin//rm FILE
/bin/../bin/rm FILE
cd /bin; ./rm FILE
cd /; bin/rm FILE
\rm FILE
r\m FILE
'rm' FILE
r'm' FILE
"r""m" FILE
$'rm' FILE
$'\x72\x6d' FILE
$"rm" FILE
$(echo rm) FILE
`echo rm` FILE
x=rm; $x FILE
x=r; ${x}m FILE
${X:-rm} FILE
: ${x:=rm}; $x FILE
r${Z}m FILE
r$(:)m FILE
r$@m FILE
r*m FILE
/bin/r? FILE
/bin/[r]m FILE
{rm,FILE}
~root/../bin/rm FILE
rm${IFS}FILE
IFS=_; x=rm_FILE; $x
set -- rm FILE; "$@"
read a b <<< 'rm FILE'; $a $b
$0 -c 'rm FILE'
${SHELL} -c 'rm FILE'
"""

PLACES = r"""
echo; rm FILE
echo|rm FILE
echo && rm FILE
echo & rm FILE
(rm FILE)
{ rm FILE; }
! rm FILE
if rm FILE; then :; fi
while rm FILE; do break; done
for i in 1; do rm FILE; done
case x in x) rm FILE;; esac
f() { rm FILE; }; f
function f { rm FILE; }; f
ls() { rm "$@"; } ; ls FILE
echo $(rm FILE)
echo `rm FILE`
echo "$(rm FILE)"
echo ${x:-$(rm FILE)}
cat <(rm FILE)
echo x > >(rm FILE)
[[ $(rm FILE) ]]
(( $(rm FILE) ))
echo $((`rm FILE`))
echo "${x[$(rm FILE)]}"
a[$(rm FILE)]=1
test -v 'a[$(rm FILE)]'
printf -v 'a[$(rm FILE)]' x
declare -i x='a[$(rm FILE)]'
let 'a[$(rm FILE)]'
echo ""&&rm FILE
rm<>FILE FILE
>/dev/null rm FILE
2>&1 rm FILE
<FILE rm FILE
A=b rm FILE
PATH=/bin:$PATH rm FILE
LD_PRELOAD=x rm FILE
coproc rm FILE
trap 'rm FILE' EXIT
alias x=rm; x FILE
PS4='$(rm FILE)' bash -xc :
hash -p /bin/rm ls; ls FILE
compgen -C 'rm FILE'
mapfile -C 'rm FILE #' -c 1 x < /etc/passwd
"""

OTHERS = r"""
sh -c 'rm FILE'
sh -xec 'rm FILE'
bash -lc 'rm FILE'
bash -ic 'rm FILE'
bash -c 'bash -c "bash -c \"rm FILE\""'
sh -c "$(echo rm FILE)"
echo rm FILE | sh
echo 'rm FILE' | bash -s
echo B64 | base64 -d | sh
sh <<< 'rm FILE'
bash <(echo rm FILE)
echo 'rm FILE' | tee DIR/s | bash
echo rm FILE > DIR/s; BASH_ENV=DIR/s bash -c :
eval rm FILE
eval 'r''m FILE'
eval "$(echo rm FILE)"
command rm FILE
builtin command rm FILE
exec rm FILE
exec -a ls rm FILE
env rm FILE
env -i A=b rm FILE
env -S 'rm FILE'
nice -n 5 env timeout 5 nohup rm FILE
setsid -w rm FILE
time rm FILE
stdbuf -o0 rm FILE
echo FILE | xargs rm
echo FILE | xargs -I{} rm {}
echo FILE | xargs -I % sh -c 'rm %'
echo rm FILE | xargs -n2 env
find FILE -exec rm {} \;
find FILE -execdir rm {} +
find DIR -name canary -exec sh -c 'rm "$0"' {} \;
sudo rm FILE
su -c 'rm FILE'
su root -c 'rm FILE'
busybox rm FILE
script -qc 'rm FILE' /dev/null
flock /tmp rm FILE
chroot / rm FILE
unshare rm FILE
parallel rm ::: FILE
ssh -o ProxyCommand='rm FILE' x
/lib64/ld-linux-x86-64.so.2 /bin/rm FILE
x86_64 rm FILE
i386 rm FILE
choom -n 0 -- rm FILE
ssh-agent rm FILE
start-stop-daemon --start --exec /bin/rm -- FILE
systemd-inhibit rm FILE
dbus-run-session rm FILE
capsh -- -c 'rm FILE'
sudo -s 'rm$IFS-rf$IFS$HOME'
"""

LINES = [
    "echo x #\nrm FILE",
    "echo x # \\\nrm FILE",
    "echo x \\\n; rm FILE",
    "echo '\n' ; rm FILE",
    "echo a;rm\tFILE",
    "cat <<E\n$(rm FILE)\nE",
    "cat <<'E' | sh\nrm FILE\nE",
    "sh <<E\nrm FILE\nE",
    "xargs rm <<E\nFILE\nE",
    "source /dev/stdin <<E\nrm FILE\nE",
    ". /dev/stdin <<E\nrm FILE\nE",
    "python3 - <<E\nimport os; os.unlink('FILE')\nE",
    "echo x\r\nrm FILE",
    "echo \u00a0;\u2028rm FILE",
]

WAYS = [line for table in (SPELLINGS, PLACES, OTHERS) for line in table.strip().splitlines()] + LINES


def test_no_way_of_writing_it_gets_a_denied_command_through(person: Person) -> None:
    went_through = []
    for text in WAYS:
        is_there, status, said = person.tries(text)
        assert is_there, text
        if status != REFUSED or not said.startswith(b"proxyd: "):
            went_through.append((text, status))
    assert not went_through


# Programs that do as they are told, and files that hold commands: out of sight, as README and docs/ssh.md say. Who
# wants these closed writes allow rules.
LIMITS = r"""
unlink FILE
mv FILE DIR/elsewhere
find FILE -delete
perl -e 'unlink "FILE"'
python3 -c 'import os; os.unlink("FILE")'
awk 'BEGIN{system("rm FILE")}'
sed '1e rm FILE' /etc/passwd
tar -cf /dev/null -I 'rm FILE' /etc/passwd
git -c alias.x='!rm FILE' x
cp /bin/rm DIR/other; DIR/other FILE
echo rm FILE > DIR/s; sh DIR/s
"""


@pytest.mark.parametrize("text", LIMITS.strip().splitlines())
def test_what_a_rule_against_a_command_does_not_stop(person: Person, text: str) -> None:
    is_there, status, _ = person.tries(text)
    assert not is_there
    assert status == 0


class TestAllowRules:
    """Where rules list what is needed, nothing else happens: no other command, nor the same with more around it."""

    POLICY = allowing(
        '{exec: ["ls *", "cat /srv/*", "/bin/date", "bin/tool *"], redirects: ["/tmp/allowed-*"]}'
    )
    OUTSIDE = r"""
id
ls; id
ls && id
ls | id
ls & id
ls $(id)
ls `id`
ls "$(id)"
ls > FILE
ls >> FILE
ls 2> FILE
ls > /tmp/allowed-../FILE
ls < FILE
A=b ls
PATH=DIR ls
LD_PRELOAD=DIR/x.so ls
/tmp/ls
./ls
../bin/ls
bin/ls
DIR/ls
date
/bin/../bin/date
/bin/date -s 1
cat /etc/passwd
cat /srv/../etc/passwd
cat /srv/x /etc/passwd
cat /srv/*
cat /srv/$X
$X
*
l*
ls() { id; }; ls
alias ls=id; ls
command id
env id
env -C DIR bin/tool
env --chdir=DIR bin/tool
sh -c id
sh -c 'ls; id'
sh -c 'cd DIR; bin/tool'
sh
bash -s
python3
sudo ls
find / -exec ls {} \;
rsync --server --sender . /
scp -f /etc/passwd
/usr/lib/openssh/sftp-server
"""

    def test_what_is_not_listed_does_not_run(
        self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path
    ) -> None:
        (tmp_path / "bin").mkdir()
        for name in ("ls", "bin/tool"):
            (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
            (tmp_path / name).chmod(0o755)
        gateway = make_ssh_gateway(policy=self.POLICY)
        with RawClient.logged_in(gateway) as client:
            person = Person(client, tmp_path)
            for text in self.OUTSIDE.strip().splitlines():
                is_there, status, said = person.tries(text)
                assert (status, is_there) == (REFUSED, True), text
                assert said.startswith(b"proxyd: "), text
                assert person.canary.read_text() == "here", text
            assert client.run(b"ls /srv")[2] == 0
            assert client.run(b"sh -c 'ls /srv'")[2] == 0
            for kind, body in (("shell", b""), ("subsystem", string("sftp")), ("subsystem", string("ls"))):
                channel = client.open_session()
                assert client.ask_channel(channel, kind, body)
                assert client.until_close(channel)[2] == REFUSED, kind
        assert not (tmp_path / "ran").exists()

    def test_openssh_as_people_type_it(self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path) -> None:
        route = make_ssh_gateway(policy=self.POLICY).route()
        for words in (["--", "id"], ["id"], ["-tt", route.name, "id"], ["ls", ";", "id"], ["ls\nid"]):
            done = run(route.words(*(words if route.name in words else [route.name, *words])), status=REFUSED)
            assert b"proxyd: " in done.stderr + done.stdout
        assert run(route.words("-s", route.name, "id"), status=REFUSED).stdout == b""
        assert run(route.words("-s", route.name, "ls /srv"), status=None).returncode in {REFUSED, LOST}
        assert run(route.words(route.name), status=REFUSED).stdout == b""
        route.scp("/etc/hostname", f"{route.name}:{tmp_path}/x", status=None)
        route.scp("/etc/hostname", f"{route.name}:{tmp_path}/x", is_legacy=True, status=None)
        route.rsync("/etc/hostname", f"{route.name}:{tmp_path}/x", status=None)
        route.sftp(f"put /etc/hostname {tmp_path}/x", status=None)
        assert not (tmp_path / "x").exists()


SHELLS = r"""
sh
bash
bash -i
bash -l
exec bash
exec -l bash
env bash
nice bash
/bin/bash
\bash
sh -c bash
sh -c 'exec sh -i'
su
su -
su - root
sudo -i
sudo -s
sudo su
chroot /
script
setsid bash
timeout 5 bash
find / -maxdepth 0 -exec bash \;
echo | xargs bash
$SHELL
${SHELL:-sh}
"""


def test_a_denied_shell_is_not_had_by_a_command(make_ssh_gateway: SshGatewayFactory) -> None:
    """With a terminal and without."""
    gateway = make_ssh_gateway(policy=NO_SHELL)
    with RawClient.logged_in(gateway) as client:
        for text in SHELLS.strip().splitlines():
            for has_terminal in (False, True):
                channel = client.open_session()
                if has_terminal:
                    assert client.ask_channel(channel, "pty-req", string("xterm") + bytes(16) + string(b"\0"))
                assert client.ask_channel(channel, "exec", string(text))
                out, _, status = client.until_close(channel)
                assert (out, status) == (b"", REFUSED), text
        channel = client.open_session()
        assert client.ask_channel(channel, "shell")
        assert client.until_close(channel)[2] == REFUSED


class TestPolicyInBetween:
    """A policy that changes counts from the next operation on, also on a connection that was there before."""

    def test_a_second_session_over_the_same_connection(
        self, make_ssh_gateway: SshGatewayFactory, tmp_path: Path
    ) -> None:
        gateway = make_ssh_gateway()
        route = gateway.route()
        control = ("-S", str(tmp_path / "c"))
        with subprocess.Popen(
            route.words("-M", *control, route.name, "echo up; cat"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        ) as master:
            assert master.stdin is not None
            assert master.stdout is not None
            assert master.stdout.readline() == b"up\n"
            assert route.ssh("id -u", *control).stdout
            assert gateway.reload(allowing('{exec: ["date *"]}'))
            done = route.ssh("id -u", *control, status=REFUSED)
            assert b"no rule allows" in done.stderr
            assert route.ssh("date +%Y", *control).returncode == 0
            run(
                [
                    "sftp",
                    "-q",
                    "-F",
                    str(route.config),
                    "-o",
                    f"ControlPath={tmp_path / 'c'}",
                    "-b",
                    "-",
                    route.name,
                ],
                input=b"ls /",
                status=LOST,
            )
            master.stdin.write(b"goes on\n")
            master.stdin.close()
            assert master.stdout.read() == b"goes on\n"


class TestBytes:
    """Commands that are no text, where nothing depends on their words: they go through as they are."""

    def test_as_they_are(self, ssh_gateway: SshGateway) -> None:
        with RawClient.logged_in(ssh_gateway) as client:
            assert client.run(b"printf '%s' '\xff\xfe\x80'")[0] == b"\xff\xfe\x80"
            assert client.run("printf '%s' '\u202e'".encode())[0] == "\u202e".encode()
            assert client.run(b"\x1b[2J\x07")[2] == 127
            channel = client.open_session()
            assert not client.ask_channel(channel, "exec", string(b"echo one\0; echo two"))
            assert client.run(b"echo well")[0] == b"well\n"
        session = ssh_gateway.last_session("alice")
        shown = ssh_gateway.proxyd("tape", "show", str(ssh_gateway.tape(session)))
        assert "\x1b" not in shown.stdout
        assert "\x07" not in shown.stdout


def test_variables_do_not_carry_commands(careful_gateway: SshGateway, tmp_path: Path) -> None:
    """What OpenSSH's client sets: only the variables of the target's list arrive."""
    script = tmp_path / "script"
    script.write_text(f"touch {tmp_path}/ran\n")
    names = ("BASH_ENV", "ENV", "LD_PRELOAD", "PATH", "PROMPT_COMMAND", "PS4", "SHELLOPTS", "IFS", "LC_X")
    route: SshRoute = careful_gateway.route().with_options(
        tmp_path / "route", SetEnv=" ".join(f"{name}={script}" for name in names)
    )
    shown = route.output("bash -c env; sh -c env").splitlines()
    assert f"LC_X={script}" in shown
    assert [line for line in shown if str(script) in line and not line.startswith("LC_X=")] == []
    assert not (tmp_path / "ran").exists()
