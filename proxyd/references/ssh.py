"""What the SSH listeners, people and targets refer to: host keys, authorities, lists, codes, credentials.

Each loader is the one that the daemon uses itself. Called by `proxyd.references.material`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from policy.located_yaml import Path as DocumentPath
from policy.located_yaml import render_path
from policy.patterns import Glob
from proxyd.config import SshListener, SshTarget, SshTargetLogin
from proxyd.identity.ssh_settings import Factor, SshLoginSettings
from proxyd.identity.ssh_trust import Trust
from proxyd.identity.totp import decode_secret
from proxyd.references.findings import Findings
from proxyd.ssh_blobs import BlobError
from proxyd.ssh_host_keys import HostKeyPolicy
from proxyd.ssh_keys import read_private_key
from proxyd.ssh_public_keys import public_key, read_public_keys
from proxyd.ssh_server_keys import ServerKeys

# Whoever may set one of these lets programs on the target do other things than those that rules on `exec` speak of.
POWERFUL_VARIABLES = (
    *("BASH_ENV", "ENV", "SHELLOPTS", "BASHOPTS", "PROMPT_COMMAND", "IFS", "PATH", "HOME"),
    *("LD_PRELOAD", "LD_LIBRARY_PATH", "LD_AUDIT", "GCONV_PATH", "LOCPATH", "TERMINFO", "TERMCAP"),
    *("PYTHONPATH", "PYTHONSTARTUP", "PERL5OPT", "PERL5LIB", "RUBYOPT", "NODE_OPTIONS"),
    *("GIT_SSH_COMMAND", "GIT_CONFIG_GLOBAL", "EDITOR", "VISUAL", "PAGER", "LESSOPEN"),
)

_COPY_LINE = "copy the line of the .pub file"
_NEW_CODES = "make one with: head -c 20 /dev/urandom | base32"


def check_documents(found: Findings) -> None:
    """What can be said without opening any other file."""
    config = found.config
    for index, person in enumerate(config.identity.people):
        _listed_keys(found, ("identity", "people", index, "keys"), person.keys)
    for index, listener in enumerate(config.listeners):
        if isinstance(listener, SshListener) and listener.client_ca and not listener.takes("certificate"):
            found.warn(
                ("listeners", index, "client_ca"),
                "no combination of `factors` asks for a certificate",
                "add `[certificate]` to `factors`, or remove the authority",
            )
    for index, target in enumerate(config.targets):
        if isinstance(target, SshTarget):
            _listed_keys(found, ("targets", index, "host_keys", "keys"), target.host_keys.keys or ())
            _environment(found, ("targets", index, "environment"), target)
    if config.ssh_authority is not None and not any(login.certificate for _, login in _logins(found)):
        found.warn(
            ("ssh_authority",),
            "no login has `certificate: true`, so it signs nothing",
            "remove it, or use it",
        )


def check_files(found: Findings, now: float) -> None:
    config = found.config
    _codes(found)
    for index, listener in enumerate(config.listeners):
        if isinstance(listener, SshListener):
            _server_keys(found, ("listeners", index), listener, now)
            _trust(found, ("listeners", index), listener)
    for index, target in enumerate(config.targets):
        if isinstance(target, SshTarget):
            _host_keys(found, ("targets", index), target)
    for path, login in _logins(found):
        _credential(found, path, login)
    _authority(found)


# --- clients ----------------------------------------------------------------------------------------------


def _listed_keys(found: Findings, path: DocumentPath, lines: Iterable[str]) -> None:
    for number, line in enumerate(lines):
        try:
            public_key(line)
        except BlobError as error:
            found.fault((*path, number), f"this key cannot be used: {error}", _COPY_LINE)


def _codes(found: Findings) -> None:
    for index, person in enumerate(found.config.identity.people):
        path: DocumentPath = ("identity", "people", index, "totp")
        secret = found.secret(path, person.totp) if person.totp is not None else None
        if secret is None:
            continue
        try:
            decode_secret(secret)
        except ValueError as error:
            found.fault(path, f"cannot be used: {error}", _NEW_CODES)


def _server_keys(found: Findings, path: DocumentPath, listener: SshListener, now: float) -> None:
    before = len(found.faults)
    for number, key in enumerate(listener.host_keys):
        found.load((*path, "host_keys", number), key, partial(read_private_key, key))
    if len(found.faults) > before:
        return
    keys = found.load(path, listener, lambda: ServerKeys.read(listener))
    for expiry in () if keys is None else keys.expiries:
        found.expiry(path, listener, expiry, now)


def _trust(found: Findings, path: DocumentPath, listener: SshListener) -> None:
    """Each file by itself, so that one fault hides no other; then all together, as the daemon reads them."""
    before = len(found.faults)
    ca, revoked = listener.client_ca, listener.revoked_keys
    if ca is not None:
        found.load((*path, "client_ca"), ca, lambda: read_public_keys(ca))
    if revoked is not None:
        alone = SshLoginSettings(factors=((Factor.PUBLIC_KEY,),), revoked_keys=revoked)
        found.load((*path, "revoked_keys"), revoked, lambda: Trust.read(alone))
    if len(found.faults) > before or _has_faulty_people(found):
        return
    identity = found.config.identity
    trust = found.load(path, listener, lambda: Trust.read(SshLoginSettings.from_config(listener, identity)))
    if trust is not None and any(trust.revocations.covers_key(blob) for blob in trust.authorities):
        found.warn(
            (*path, "client_ca"),
            "one of these authorities is revoked by `revoked_keys`: its certificates are refused",
            "remove it here",
        )


def _has_faulty_people(found: Findings) -> bool:
    return any(fault.path.startswith("identity.people") for fault in found.faults)


# --- targets ----------------------------------------------------------------------------------------------


def _logins(found: Findings) -> Iterable[tuple[DocumentPath, SshTargetLogin]]:
    for index, target in enumerate(found.config.targets):
        for number, login in enumerate(target.logins if isinstance(target, SshTarget) else ()):
            yield ("targets", index, "logins", number), login


def _environment(found: Findings, path: DocumentPath, target: SshTarget) -> None:
    for number, pattern in enumerate(target.environment):
        powerful = [name for name in POWERFUL_VARIABLES if Glob(pattern).matches(name)]
        if powerful:
            found.warn(
                (*path, number),
                f"lets clients set `{powerful[0]}`, by which programs can be made to do other things than rules say",
                "name the variables that are needed, as `LANG` and `LC_*`",
            )


def _credential(found: Findings, path: DocumentPath, login: SshTargetLogin) -> None:
    if login.password is not None:
        found.secret((*path, "password"), login.password)
    source = login.key
    if source is None:
        return
    if login.passphrase is not None and found.secret((*path, "passphrase"), login.passphrase) is None:
        return
    found.load((*path, "key"), source, lambda: read_private_key(source, login.passphrase))


def _host_keys(found: Findings, path: DocumentPath, target: SshTarget) -> None:
    where = (*path, "host_keys")
    if any(fault.path.startswith(f"{render_path(where)}.") for fault in found.faults):
        return  # of `keys`, each at its place already
    policy = found.load(where, target.host_keys, lambda: HostKeyPolicy.from_config(target))
    if policy is None or policy.is_known:
        return
    host = target.name if target.address.is_unix else target.address
    found.fault(
        (*where, "known_hosts"),
        f"{target.host_keys.known_hosts}: says nothing of {host}: every connection would be refused",
        "get the key with ssh-keyscan, compare it on the host's console, and add its line",
    )


def _authority(found: Findings) -> None:
    authority = found.config.ssh_authority
    if authority is None:
        return
    path: DocumentPath = ("ssh_authority", "key")
    found.load(path, authority.key, lambda: read_private_key(authority.key))
