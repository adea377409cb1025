"""What the PostgreSQL listeners and targets refer to: TLS files, passwords; and what goes in clear.

Called by `proxyd.references.material`.
"""

from __future__ import annotations

from policy.located_yaml import Path as DocumentPath
from proxyd.config import PostgresListener, PostgresTarget
from proxyd.postgres_listener import certificate_rules, server_tls_settings
from proxyd.references.findings import Findings
from proxyd.tls_contexts import Expiry, ServerTls
from proxyd.upstream import UpstreamTarget


def check_documents(found: Findings) -> None:
    """What can be said without opening any other file."""
    try:
        certificate_rules(found.config.identity)
    except ValueError as error:
        found.fault(("identity", "certificates"), str(error), "correct the rules")
    for index, listener in enumerate(found.config.listeners):
        if (
            isinstance(listener, PostgresListener)
            and not listener.takes("token")
            and listener.tls.client_certificates != "required"
        ):
            found.warn(
                ("listeners", index, "tls", "client_certificates"),
                "clients without a certificate have no name and are refused after the handshake",
                "write `required`",
            )
    for index, target in enumerate(found.config.targets):
        if isinstance(target, PostgresTarget):
            _clear_text(found, ("targets", index), target)


def check_files(found: Findings, now: float) -> None:
    for index, listener in enumerate(found.config.listeners):
        if isinstance(listener, PostgresListener):
            _listener_tls(found, ("listeners", index, "tls"), listener, now)
    for index, target in enumerate(found.config.targets):
        if isinstance(target, PostgresTarget):
            _target_tls(found, ("targets", index, "tls"), target, now)
            for number, login in enumerate(target.logins):
                if login.password is not None:
                    found.secret(("targets", index, "logins", number, "password"), login.password)


def _clear_text(found: Findings, path: DocumentPath, target: PostgresTarget) -> None:
    if target.tls.mode in {"disable", "allow", "prefer"} and not target.address.is_loopback:
        found.warn(
            (*path, "tls", "mode"),
            f"`{target.tls.mode}` sends statements, rows and perhaps the password in clear",
            "use `verify-full` and `ca`",
        )
    for number, login in enumerate(target.logins):
        has_means = login.password is not None or target.tls.certificate is not None
        if not has_means and not target.address.is_unix:
            found.warn(
                (*path, "logins", number),
                "no password and no client certificate",
                "works only where the target trusts this machine: add `password`",
            )


def _listener_tls(found: Findings, path: DocumentPath, listener: PostgresListener, now: float) -> None:
    tls = found.load(path, listener.tls, lambda: ServerTls(server_tls_settings(listener)))
    for expiry in () if tls is None else tls.expiries:
        found.expiry(path, listener.tls, expiry, now)


def _target_tls(found: Findings, path: DocumentPath, target: PostgresTarget, now: float) -> None:
    for expiry in found.load(path, target.tls, lambda: _upstream_expiries(target)) or ():
        found.expiry(path, target.tls, expiry, now)


def _upstream_expiries(target: PostgresTarget) -> tuple[Expiry, ...]:
    tls = UpstreamTarget.from_config(target).tls
    return () if tls is None else tls.expiries
