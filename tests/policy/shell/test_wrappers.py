"""Commands that run commands: what is seen inside them, and whether that explains them."""

from __future__ import annotations

import pytest

from policy.shell.analyze import analyze_command
from policy.shell.explain import MAX_WRAPPED
from tests.policy.shell.shown import inner_of, is_unresolved, resolved

# Inside the round brackets is all that the command does.
EXPLAINED = {
    "sh -c 'a; b'": "sh -c 'a; b' (a, b)",
    "/bin/sh -c 'a && b $c'": "/bin/sh -c 'a && b $c' (a, b ?$c)",
    "bash -lc 'a'": "bash -lc a (a)",
    "bash -euo pipefail -c 'a'": "bash -euo pipefail -c a (a)",
    "bash -o pipefail -ec a": "bash -o pipefail -ec a (a)",
    "bash --norc --login -c a": "bash --norc --login -c a (a)",
    "sh -c -- a": "sh -c -- a (a)",
    "sh -c -x a": "sh -c -x a (a)",
    "sh +e -c a": "sh +e -c a (a)",
    "sh -c 'a \"$@\"' b c": 'sh -c \'a "$@"\' b c (a ?"$@")',
    "dash -c a": "dash -c a (a)",
    "zsh -fc a": "zsh -fc a (a)",
    "sh -c 'a > f'": "sh -c 'a > f' (a >f)",
    "sh -c a > f": "sh -c a >f (a)",
    "x=1 sh -c a": "x= sh -c a (a)",
    "sh -c \"sh -c 'a'\"": "sh -c 'sh -c 'a'' (sh -c a (a))",
    "eval a b": "eval a b (a b)",
    "eval 'a;' b": "eval a; b (a, b)",
    "command a b": "command a b (a b)",
    "command -p a": "command -p a (a)",
    "exec a": "exec a (a)",
    "builtin a": "builtin a (a)",
    "env a b": "env a b (a b)",
    "env -i X=1 Y=2 a": "env -i X=1 Y=2 a (X= Y= a)",
    'env X="$b" a': 'env ?X="$b" a (X= a)',
    "env -u X a": "env -u X a (a)",
    "env - a": "env - a (a)",
    "env -- a": "env -- a (a)",
    "/usr/bin/env a": "/usr/bin/env a (a)",
    "nice a": "nice a (a)",
    "nice -n 10 a": "nice -n 10 a (a)",
    "nice -n10 a": "nice -n10 a (a)",
    "nice -5 a": "nice -5 a (a)",
    "nice --adjustment=5 a -x": "nice --adjustment=5 a -x (a -x)",
    'nice -n "$x" a': 'nice -n ?"$x" a (a)',
    "nohup a": "nohup a (a)",
    "setsid -f a": "setsid -f a (a)",
    "stdbuf -oL -e0 a": "stdbuf -oL -e0 a (a)",
    "timeout 5 a": "timeout 5 a (a)",
    "timeout -k 1 -s KILL 1.5m a": "timeout -k 1 -s KILL 1.5m a (a)",
    "timeout --foreground --signal=9 5 a": "timeout --foreground --signal=9 5 a (a)",
    "ionice -c 3 a": "ionice -c 3 a (a)",
    "chrt -f 50 a": "chrt -f 50 a (a)",
    "taskset -c 0-3 a": "taskset -c 0-3 a (a)",
    "taskset 0x3 a": "taskset 0x3 a (a)",
    "time a": "time a (a)",
    "trap 'a; b' EXIT": "trap 'a; b' EXIT (a, b)",
    "nice nohup env A=1 sh -c 'a $(b)'": "nice nohup env A=1 sh -c 'a $(b)' "
    "(nohup env A=1 sh -c 'a $(b)' (env A=1 sh -c 'a $(b)' (A= sh -c 'a $(b)' (a ?$(b), b))))",
}


@pytest.mark.parametrize("text", EXPLAINED)
def test_wrappers_are_explained_by_what_they_run(text: str) -> None:
    assert resolved(text) == [EXPLAINED[text]]


# Here who may run the inner command may not for that reason run the outer one.
SEEN = {
    "sudo a b": ["a b"],
    "sudo -u root -g adm -n a -u": ["a -u"],
    "sudo --user=root --login a": ["a"],
    "sudo -iu root a": ["a"],
    "sudo X=1 a": ["X= a"],
    "sudo -- a": ["a"],
    "sudo sudo a": ["sudo a [a]"],
    "sudo sh -c 'a; b'": ["sh -c 'a; b' (a, b)"],
    "doas -u x a": ["a"],
    "su -c 'a; b'": ["a", "b"],
    "su - x -c 'a'": ["a"],
    "su -l x --command='a b'": ["a b"],
    "runuser -u x -- a": ["a"],
    "runuser x -c a": ["a"],
    "sg x -c 'a'": ["a"],
    "chroot /x a": ["a"],
    "chroot --userspec=a:b /x a": ["a"],
    "xargs a": ["a ?"],
    "xargs -0 -n 1 -P4 a b": ["a b ?"],
    "xargs -I{} a {} b{}c d": ["a ?{} ?b{}c d"],
    "xargs -I X sh -c 'a \"$1\"' _ X": ['sh -c \'a "$1"\' _ ?X (a ?"$1")'],
    "find / -name x -exec a {} \\;": ["a ?{}"],
    "find / -exec a {} + -execdir b ';' -ok c \\; -print": ["a ?{}", "b", "c"],
    "find /x -name '*.y' -delete": [],
    "find . -ok a {} + -exec b \\;": ["a ?{} + -exec b"],
    'find ~/x /y/"$z" -exec a x"$b" {} +': ['a ?x"$b" ?{}'],
    "ssh h a b": ["a b"],
    "ssh -p 22 -o BatchMode=yes x@h 'a; b $c'": ["a", "b ?$c"],
    "watch -n 1 a b": ["a b"],
    "watch 'a | b'": ["a", "b"],
    "busybox a b": ["a b"],
    "toybox a": ["a"],
    "busybox sh -c a": ["sh -c a (a)"],
    "script -c 'a b' /x": ["a b"],
    "script -qc a": ["a"],
    "flock /x a b": ["a b"],
    "flock -n /x -c 'a; b'": ["a", "b"],
    "flock -w 5 9": [],
    "unshare -m a": ["a"],
    "nsenter -t 1 -m -- a": ["a"],
    "strace -f -o /x a": ["a"],
    "entr -r a /_": ["a ?/_"],
    "entr -s 'a; b'": ["a", "b"],
    "pkexec --user x a": ["a"],
    "/lib64/ld-linux-x86-64.so.2 /bin/a b": ["/bin/a b"],
    "setpriv --reuid=1 a": ["a"],
    "systemd-run --user -p X=1 a": ["a"],
    # of the wrappers, what they are called with or where they lie does not explain them
    "command -v a": [],
    "/tmp/env a": ["a"],
    # elsewhere `./a` is another program, and `x` another file
    "env -C /x ./a x": ["./a x"],
    "env --chdir=/x ./a x": ["./a x"],
    "ssh-agent a b": ["a b"],
    "ssh-agent -t 60 -- a b": ["a b"],
    "sudo -s a b": ["a b"],
    "mosh-server new -s -c 256 -- a b": ["a b"],
    "./sh -c a": ["a"],
    "trap - EXIT": [],
}


@pytest.mark.parametrize("text", SEEN)
def test_launchers_are_seen_through_and_not_explained(text: str) -> None:
    analysis = analyze_command(text)
    assert analysis.unresolved == ()
    assert not analysis.commands[0].is_explained
    assert inner_of(text) == SEEN[text]


READ_CODE = (
    "sh",
    "bash",
    "/bin/bash",
    "bash -l",
    "bash -s",
    "bash -s a b",
    "sh -",
    "bash --norc",
    "bash -i",
    "bash /dev/stdin",
    "bash /dev/fd/0",
    "bash /proc/self/fd/0",
    "bash <(a)",
    "sh < f",
    "fish",
    "tcsh",
    "python3",
    "python3 -",
    "python -u",
    "python3 -i x.py",
    "python3.11 -W ignore",
    "perl",
    "perl -w",
    "perl -",
    "perl -i.edit",
    "ruby",
    "node",
    "nodejs -",
    "php",
    "lua5.4",
    "sudo -s",
    "sudo -i",
    "doas -s",
    "su",
    "su - x",
    "runuser -l x",
    "newgrp x",
    "chroot /x",
    "unshare",
    "nsenter -t 1 -m",
    "script",
    "script /x",
    "ssh h",
    "at now",
    "batch",
    "mosh-server new -s -c 256",
    ". /dev/stdin",
    "source /dev/fd/0",
)


@pytest.mark.parametrize("text", READ_CODE)
def test_what_takes_code_from_its_input_says_so(text: str) -> None:
    analysis = analyze_command(text)
    assert analysis.unresolved == ()
    assert analysis.commands[0].reads_code


NO_CODE = (
    "sh /x/y.sh a",
    "bash ./x",
    "bash --version",
    "python3 /x/y.py",
    "python3 -c 'print(1)'",
    "python3 -m http.server",
    "python3 --version",
    "perl -ne 'print'",
    "perl x.pl",
    "ruby -e 1",
    "node -e 1",
    "node x.js",
    "php -r 1",
    "awk '{system(\"rm x\")}'",
    "at -l",
    "sudo -l",
    "sudo -v",
    ". /etc/profile",
    "env",
    "find /x",
    "xargs",
)


@pytest.mark.parametrize("text", NO_CODE)
def test_scripts_and_code_in_words_are_commands_like_others(text: str) -> None:
    (command,) = analyze_command(text).commands
    assert not is_unresolved(text)
    assert not command.reads_code and not command.is_explained


# The inner command is shown as well as can be, but something else might be run.
UNCLEAR = {
    "sudo -Z rm x": ["rm x"],
    "sudo --unknown rm x": ["rm x"],
    "nice --unknown=1 rm x": ["rm x"],
    "timeout rm x": ["rm x"],
    "timeout $x rm y": ["rm y"],
    "env -S 'rm x'": ["'rm x'"],
    "bash -O extglob -c 'rm x'": ["extglob -c 'rm x'"],
    "bash --rcfile /x -c 'rm x'": ["/x -c 'rm x'"],
    "bash -ic 'rm x'": ["rm x"],
    "fish -c 'rm x'": [],
    "su -s /bin/x -c 'rm x'": ["rm x"],
    "ssh -o ProxyCommand=x h rm x": ["rm x"],
    "ssh h -v rm x": ["rm x"],
    "parallel rm ::: x": ["rm ?"],
    "xargs -I{} sh -c 'rm {}'": ["sh -c ?rm {}"],
    "setarch -R rm x": ["rm x"],
    "x86_64 rm x": ["rm x"],
    "uname26 rm x": ["rm x"],
    "dbus-run-session -- rm x": ["rm x"],
    "systemd-inhibit --what=idle rm x": ["rm x"],
    "start-stop-daemon --start --exec /bin/rm -- x": ["/bin/rm -- x"],
    "runcon -t t rm x": ["t rm x"],
    "capsh -- -c 'rm x'": ["'rm x'"],
    "choom -n 0 rm x": ["0 rm x"],
    "gosu root rm x": ["root rm x"],
    # The shell that sudo starts is given the words with everything escaped but the dollar sign.
    "sudo -s 'rm$IFS-rf$IFS$HOME'": ["rm$IFS-rf$IFS$HOME"],
    "sudo -i a '$(rm x)'": ["a '$(rm x)'"],
    "find . -exec a $x \\;": ["a ?$x"],
    'find . -exec a "$x" -exec rm y \\;': ['a ?"$x" -exec rm y'],
    "find $x -exec rm y \\;": ["rm y"],
    "exec -a x rm y": ["x rm y"],
    "chrt -p 1 rm": ["1 rm"],
}


@pytest.mark.parametrize("text", UNCLEAR)
def test_unclear_arguments_make_a_text_unresolved(text: str) -> None:
    assert is_unresolved(text)
    assert inner_of(text) == UNCLEAR[text]


def test_wrappers_in_wrappers_have_a_limit() -> None:
    assert resolved("nice " * MAX_WRAPPED + "a")
    assert is_unresolved("nice " * (MAX_WRAPPED + 1) + "a")


# What clients send without being asked, as they send it.
CLIENTS = {
    "ansible: a directory": '/bin/sh -c \'( umask 77 && mkdir -p "` echo /root/.ansible/tmp `"&& '
    'mkdir "` echo /root/.ansible/tmp/ansible-tmp-1 `" && '
    'echo ansible-tmp-1="` echo /root/.ansible/tmp/ansible-tmp-1 `" ) && sleep 0\'',
    "ansible: home": "/bin/sh -c 'echo ~ && sleep 0'",
    "ansible: interpreters": "/bin/sh -c 'echo PLATFORM; uname; echo FOUND; command -v '\"'\"'python3.12'\"'\"'; "
    "command -v '\"'\"'/usr/bin/python3'\"'\"'; echo ENDFOUND && sleep 0'",
    "ansible: chmod": "/bin/sh -c 'chmod u+x /root/.ansible/tmp/a/ /root/.ansible/tmp/a/AnsiballZ_x.py && sleep 0'",
    "ansible: module": "/bin/sh -c 'LANG=C /usr/bin/python3 /root/.ansible/tmp/a/AnsiballZ_command.py && sleep 0'",
    "ansible: become": "/bin/sh -c 'sudo -H -S -n  -u root /bin/sh -c '\"'\"'echo BECOME-SUCCESS-abc ; "
    "/usr/bin/python3 /root/a.py'\"'\"' && sleep 0'",
    "ansible: tidy": "/bin/sh -c 'rm -f -r /root/.ansible/tmp/ansible-tmp-1/ > /dev/null 2>&1 && sleep 0'",
    "ansible: pipelining": "/bin/sh -c '/usr/bin/python3 && sleep 0'",
    "rsync": "rsync --server -vlogDtpre.iLsfxCIvu . /srv/x",
    "rsync: a name with a blank": "rsync --server --sender -logDtpre.iLsfxCIvu . '/srv/x y'",
    "rsync: escaped": "rsync --server -e.LsfxCIvu . /srv/x\\ y",
    "git": "git-upload-pack '/srv/x.git'",
    "scp": "scp -t -- /tmp/x",
    "scp: quoted": "scp -r -f '/tmp/x y'",
    "sftp": "/usr/lib/openssh/sftp-server",
    "vs code": "bash -lc 'uname -a; id -u'",
    "vs code: script": "bash",
    "mosh": "mosh-server new -s -c 256 -l LANG=en_GB.UTF-8",
    "borg": "borg serve --umask=077",
    "ssh-copy-id": "exec sh -c 'cd ; umask 077 ; mkdir -p .ssh && { [ -z \"`tail -1c .ssh/authorized_keys "
    '2>/dev/null`" ] || echo >> .ssh/authorized_keys || exit 1; } && cat >> .ssh/authorized_keys || exit 1 ; '
    "if type restorecon >/dev/null 2>&1 ; then restorecon -F .ssh .ssh/authorized_keys ; fi'",
}


@pytest.mark.parametrize("client", CLIENTS)
def test_what_common_clients_send_is_resolved(client: str) -> None:
    assert resolved(CLIENTS[client])
