"""Commands that run another elsewhere, often, or with more words: xargs, find, ssh, chroot and so on.

What they run is seen, so that a rule against a command touches it here too; but to be allowed to run a command is not
to be allowed to run it like this, so none of them is explained. Where one of them without a command starts a shell, it
reads code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from policy.facts import SimpleCommand
from policy.shell.calls import NOTHING, READS_CODE, Call, Ran, Runner, Unclear
from policy.shell.commands import ANY_WORDS, ShellWord
from policy.shell.names import names
from policy.shell.options import Options, scan

# Those that stand in front of a command with nothing but options, and what they start without one.
_PLAIN: dict[str, tuple[Options, Ran]] = {
    "chroot": (
        Options(long_flags=names("skip-chdir"), long_values=names("userspec groups")),
        READS_CODE,
    ),
    "unshare": (
        Options(
            flags="mupinUCTrcf",
            values="RwSG",
            long_flags=names(
                """mount uts ipc net pid user cgroup time fork map-root-user map-current-user map-auto keep-caps
                mount-proc kill-child"""
            ),
            long_values=names(
                "root wd setuid setgid propagation setgroups map-user map-group mount-proc kill-child"
            ),
        ),
        READS_CODE,
    ),
    "nsenter": (
        Options(
            flags="aFZ",
            values="tSG",
            attached="muinpUCTrw",
            long_flags=names(
                "all mount uts ipc net pid cgroup user time no-fork root wd preserve-credentials follow-context"
            ),
            long_values=names("target setuid setgid mount uts ipc net pid cgroup user time root wd"),
        ),
        READS_CODE,
    ),
    "strace": (
        Options(flags="cCdDfFhikKnqrtTvVwxyzZ", values="abeEIoOpPsSuUX", long_flags=names("follow-forks")),
        NOTHING,
    ),
    "pkexec": (
        Options(long_flags=names("disable-internal-agent keep-cwd"), long_values=names("user")),
        READS_CODE,
    ),
    "fakeroot": (Options(flags="u", values="lsib"), READS_CODE),
    "prlimit": (Options(attached="cdefilmnqrstuvxy"), NOTHING),
    "setpriv": (
        Options(
            flags="d",
            long_flags=names("clear-groups keep-groups init-groups no-new-privs nnp reset-env"),
            long_values=names(
                """ambient-caps inh-caps bounding-set groups reuid regid ruid rgid euid egid securebits pdeathsig
                selinux-label apparmor-profile"""
            ),
        ),
        NOTHING,
    ),
    "systemd-run": (
        Options(
            flags="tPdGqSr",
            values="EpMHu",
            long_flags=names(
                "user system scope pty pipe quiet wait collect no-block same-dir remain-after-exit shell"
            ),
            long_values=names(
                "unit property description slice uid gid nice setenv machine host service-type"
            ),
        ),
        READS_CODE,
    ),
    "ssh-agent": (Options(flags="cDdks", values="aEOPt"), NOTHING),
    "busybox": (Options(), NOTHING),
    "toybox": (Options(), NOTHING),
}
# Those whose words in front of the command have no simple form, or that are too seldom used to know it.
_UNCLEAR = names(
    """setarch linux32 linux64 i386 x86_64 uname26 ltrace valgrind perf numactl cgexec firejail proot faketime unbuffer
    choom uclampset coresched runcon capsh cpulimit catchsegv eatmydata nocache fakechroot bwrap schroot dchroot
    systemd-inhibit systemd-nspawn start-stop-daemon dbus-run-session dbus-launch xvfb-run rlwrap sshpass torsocks
    proxychains proxychains4 gosu su-exec tini dumb-init chpst setuidgid envuidgid envdir softlimit setlock"""
)


def _plain(call: Call) -> Ran:
    options, without_command = _PLAIN[call.name]
    at = scan(call.words, options).at
    if call.name == "chroot":
        if at < len(call.words) and not call.words[at].is_single:
            raise Unclear(at)
        at += 1
    return call.seen(at) if at < len(call.words) else without_command


def _unclear(call: Call) -> Ran:
    raise Unclear(1)


def loader(call: Call) -> Ran:
    """ld.so PROGRAM runs the program, whatever rights its file has."""
    at = scan(
        call.words,
        Options(long_flags=names("list verify inhibit-cache"), long_values=names("library-path")),
    ).at
    return call.seen(at)


_XARGS = Options(
    flags="0prtxo",
    values="adEILnPsJRS",
    attached="iel",
    long_flags=names(
        "null interactive no-run-if-empty verbose exit open-tty show-limits eof replace max-lines"
    ),
    long_values=names(
        "arg-file delimiter eof replace max-lines max-args max-procs max-chars process-slot-var"
    ),
)


def _xargs(call: Call) -> Ran:
    """Its input becomes more words at the end, or with -I stands in the place of a mark."""
    scanned = scan(call.words, _XARGS)
    if scanned.at >= len(call.words):
        return NOTHING
    words = list(call.words[scanned.at :])
    marks = [value for name, value in scanned.given if name in ("I", "J", "i", "replace")]
    for mark in marks:
        if mark is not None and not mark.is_known:
            raise Unclear(scanned.at)
        text = "{}" if mark is None or not mark.text else mark.text
        words = [_with_mark(word, text) for word in words]
    if not marks or scanned.has("n", "L", "l", "max-args", "max-lines"):  # these take -I back
        words.append(ANY_WORDS)
    return Ran((call.explaining.run(words),))


def _with_mark(word: ShellWord, mark: str) -> ShellWord:
    if mark not in word.text:
        return word
    return replace(word, is_known=False, head=word.head.partition(mark)[0])


_FIND_ACTIONS = frozenset(("-exec", "-execdir", "-ok", "-okdir"))


def _find(call: Call) -> Ran:
    """Every -exec of it. A word that could turn out to begin or to end one makes the rest unclear."""
    words = call.words
    inner: list[SimpleCommand] = []
    at = 1
    while at < len(words):
        action = words[at]
        at += 1
        if not action.is_known:
            _check_certain(call, action, "-+")
        elif action.text in _FIND_ACTIONS:
            start = at
            while at < len(words) and not _ends_action(action.text, words[start:at], words[at]):
                _check_certain(call, words[at], ";+")
                at += 1
            if at > start:
                inner.append(call.explaining.run([_with_mark(word, "{}") for word in words[start:at]]))
            at += 1
    return Ran(tuple(inner))


def _check_certain(call: Call, word: ShellWord, signs: str) -> None:
    """A word that is not known must at least not begin with one of these."""
    if not word.is_known and (not word.is_single or not word.head or word.head[0] in signs):
        call.explaining.doubt('"find" has words that are made at run time and could be actions')


def _ends_action(action: str, before: Sequence[ShellWord], word: ShellWord) -> bool:
    if not word.is_known or word.text not in (";", "+"):
        return False
    return word.text == ";" or (bool(before) and before[-1].text == "{}" and action in ("-exec", "-execdir"))


_SSH = Options(flags="46AaCfGgKkMNnqsTtVvXxYy", values="BbcDEeFIiJLlmOoPpQRSWw")


def _ssh(call: Call) -> Ran:
    """The words behind the host are joined and given to the login shell there."""
    scanned = scan(call.words, _SSH)
    if scanned.has("F", "S") or not all(_is_harmless_setting(value) for value in scanned.values("o")):
        call.explaining.doubt('"ssh" with settings that may run commands')
    at = scanned.at + 1
    if at > len(call.words):
        return NOTHING
    behind = scan(call.words, _SSH, at)  # options may stand behind the host too
    if behind.given or not call.words[scanned.at].is_single:
        raise Unclear(at)
    return call.joined(behind.at) if behind.at < len(call.words) else READS_CODE


def _is_harmless_setting(word: ShellWord) -> bool:
    name = word.head.replace(" ", "=").partition("=")[0].lower()
    return bool(name) and word.is_single and not name.endswith(("command", "include", "provider", "exec"))


_WATCH = Options(
    flags="bcdegprtwx",
    values="nq",
    long_flags=names("beep color errexit chgexit precise no-rerun no-title no-wrap exec differences"),
    long_values=names("interval equexit differences"),
)


def _watch(call: Call) -> Ran:
    scanned = scan(call.words, _WATCH)
    return call.seen(scanned.at) if scanned.has("x", "exec") else call.joined(scanned.at)


def _parallel(call: Call) -> Ran:
    """It makes texts for a shell from its words and its input: never quite clear."""
    call.explaining.doubt('"parallel" makes commands from its input')
    scanned = scan(
        call.words, Options(flags="0kmXqtv", values="djnNILSaP", long_flags=names("bar halt will-cite"))
    )
    if scanned.at >= len(call.words):
        return READS_CODE
    words: list[ShellWord] = []
    for word in call.words[scanned.at :]:
        if word.text.startswith(":::"):
            break
        words.append(_with_mark(word, "{"))
    return Ran((call.explaining.run([*words, ANY_WORDS]),))


_SCRIPT = Options(
    flags="aefqV",
    values="BcEIOoTm",
    attached="t",
    long_flags=names("append return flush force quiet"),
    long_values=names("command echo log-io log-in log-out log-timing logging-format output-limit timing"),
)


def _script(call: Call) -> Ran:
    """script -c TEXT [FILE]; without a text an interactive shell."""
    scanned = scan(call.words, _SCRIPT)
    behind = scan(call.words, _SCRIPT, scanned.at + 1)
    texts = scanned.values("c", "command") + behind.values("c", "command")
    if behind.at < len(call.words) or len(texts) > 1:
        raise Unclear(scanned.at)
    return call.text(texts[0], is_explained=False) if texts else READS_CODE


_FLOCK = Options(
    flags="senuxFov",
    values="wE",
    long_flags=names("shared exclusive nonblock nb unlock close no-fork verbose"),
    long_values=names("timeout wait conflict-exit-code"),
)


def _flock(call: Call) -> Ran:
    """flock FILE COMMAND..., flock FILE -c TEXT, flock DESCRIPTOR."""
    at = scan(call.words, _FLOCK).at
    if at < len(call.words) and not call.words[at].is_single:
        raise Unclear(at)
    at += 1
    if at >= len(call.words):
        return NOTHING
    word = call.words[at]
    if word.is_known and word.text in ("-c", "--command"):
        return call.text(call.words[at + 1], is_explained=False) if at + 1 < len(call.words) else NOTHING
    if not word.is_known or word.text.startswith("-"):
        raise Unclear(at)
    return call.seen(at)


def _mosh_server(call: Call) -> Ran:
    """mosh-server new OPTIONS [-- COMMAND...]; without a command a shell. Either is talked to past the gateway."""
    for at, word in enumerate(call.words[1:], 1):
        if not word.is_single:
            raise Unclear(at)
        if word.is_known and word.text == "--":
            return call.seen(at + 1)
    return READS_CODE


def _entr(call: Call) -> Ran:
    """ "/_" stands for the file that changed; -s takes a text."""
    scanned = scan(call.words, Options(flags="acdnprsxz"))
    if scanned.at >= len(call.words):
        return NOTHING
    if scanned.has("s"):
        return call.text(call.words[scanned.at], is_explained=False)
    return Ran((call.explaining.run([_with_mark(word, "/_") for word in call.words[scanned.at :]]),))


LAUNCHERS: dict[str, Runner] = {
    **dict.fromkeys(_PLAIN, _plain),
    **dict.fromkeys(_UNCLEAR, _unclear),
    "xargs": _xargs,
    "find": _find,
    "ssh": _ssh,
    "watch": _watch,
    "parallel": _parallel,
    "script": _script,
    "flock": _flock,
    "entr": _entr,
    "mosh-server": _mosh_server,
}
