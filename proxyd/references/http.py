"""What the HTTP listeners and targets refer to: certificates, the authority for tunnels, credentials.

Each loader is the one that the daemon uses itself. Called by `proxyd.references.material`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from cryptography import x509

from policy.located_yaml import Path as DocumentPath
from policy.located_yaml import render_path
from proxyd.config import HttpListener, HttpTarget, HttpTargetLogin, TargetTls
from proxyd.http_credentials import injector_for
from proxyd.http_listener import server_tls_settings
from proxyd.http_upstream_target import HttpUpstreamTarget
from proxyd.inspection import InspectionAuthority
from proxyd.inspection_names import address_in, forbidden_by
from proxyd.references.findings import Findings
from proxyd.target_tls import client_tls_settings
from proxyd.tls_contexts import ClientTls, Expiry, ServerTls
from proxyd.tls_files import certificates_in, read_file


def check_documents(found: Findings) -> None:
    """What can be said without opening any other file."""
    for index, listener in _listeners(found):
        if listener.domain is None and not listener.hosts:
            found.warn(
                ("listeners", index),
                "it has no name, so clients reach targets by its address alone, as https://ADDRESS/t/TARGET/",
                "add `domain`, below which targets have names, or `hosts`",
            )
    for index, target in _targets(found):
        _clear_text(found, ("targets", index), target)
        if any(listener.proxy is not None for _, listener in _listeners(found)):
            _unclear_address(found, ("targets", index), target)


def check_files(found: Findings, now: float) -> None:
    for index, listener in _listeners(found):
        _listener_tls(found, ("listeners", index), listener, now)
        _authority(found, ("listeners", index), listener, now)
    for index, target in _targets(found):
        _target_tls(found, ("targets", index), target, now)
        for number, login in enumerate(target.logins):
            _credential(found, ("targets", index, "logins", number), target, login, now)


def _listeners(found: Findings) -> Iterator[tuple[int, HttpListener]]:
    for index, listener in enumerate(found.config.listeners):
        if isinstance(listener, HttpListener):
            yield index, listener


def _targets(found: Findings) -> Iterator[tuple[int, HttpTarget]]:
    for index, target in enumerate(found.config.targets):
        if isinstance(target, HttpTarget):
            yield index, target


# --- targets ----------------------------------------------------------------------------------------------


def _clear_text(found: Findings, path: DocumentPath, target: HttpTarget) -> None:
    if target.tls is None and not target.address.is_loopback:
        found.warn(
            (*path, "url"),
            "requests, answers and credentials travel in clear",
            "use https, and `tls: {ca: ...}`",
        )
    if target.tls is not None and target.tls.mode == "require" and target.tls.ca is None:
        found.warn(
            (*path, "tls", "mode"),
            "`require` verifies nothing: whoever answers in the target's place gets the credential",
            "use `verify-full` and `ca`",
        )


def _unclear_address(found: Findings, path: DocumentPath, target: HttpTarget) -> None:
    """Two targets at one address: a tunnel to it could mean either."""
    host, port = target.url.host, target.url.port
    others = [other for _, other in _targets(found) if other is not target and other.is_at(host, port)]
    if others and not any(one.is_listed(host, port) for one in (target, *others)):
        found.warn(
            (*path, "url"),
            f"`{others[0].name}` is at the same address, so CONNECT to it means neither",
            "list the address in `hosts` of the one that is meant, or leave it so",
        )


def _target_tls(found: Findings, path: DocumentPath, target: HttpTarget, now: float) -> None:
    tls = target.tls
    if tls is not None:
        load = partial(_client_expiries, tls, target)
        for expiry in found.load((*path, "tls"), tls, load) or ():
            found.expiry((*path, "tls"), tls, expiry, now)


def _client_expiries(tls: TargetTls, target: HttpTarget) -> tuple[Expiry, ...]:
    return ClientTls(client_tls_settings(tls, target.protocols)).expiries


def _credential(
    found: Findings, path: DocumentPath, target: HttpTarget, login: HttpTargetLogin, now: float
) -> None:
    if login.certificate is None:
        found.load(path, login, partial(injector_for, target, login))
        return
    # The target's own files are looked at above, and what is wrong with them is said once.
    ours = str(login.certificate.certificate), str(login.certificate.key)
    if any(fault.path.startswith(f"{render_path((*path[:2], 'tls'))}.") for fault in found.faults):
        return
    upstream = found.load(path, login, partial(HttpUpstreamTarget.from_config, target, login))
    for expiry in () if upstream is None else upstream.expiries:
        if expiry.path in ours:
            found.expiry(path, login, expiry, now)


# --- listeners --------------------------------------------------------------------------------------------


def _listener_tls(found: Findings, path: DocumentPath, listener: HttpListener, now: float) -> None:
    settings = server_tls_settings(listener)
    if settings is None or listener.tls is None:
        return
    where = (*path, "tls")
    tls = found.load(where, listener.tls, partial(ServerTls, settings))
    if tls is None:
        return
    for expiry in tls.expiries:
        found.expiry(where, listener.tls, expiry, now)
    certificate = certificates_in(settings.certificate, read_file(settings.certificate))[0]
    unnamed = [name for name in _names(found, listener) if not _is_for(certificate, name)]
    if unnamed:
        found.warn(
            (*where, "certificate"),
            f"is not for {', '.join(f'`{name}`' for name in unnamed[:5])}: clients refuse it under such a name",
            "issue it with these names, or with a wildcard for those below `domain`",
        )


def _names(found: Findings, listener: HttpListener) -> Iterator[str]:
    """Every name by which clients may come to this listener."""
    yield from listener.hosts
    if listener.domain is not None:
        yield listener.domain
        for _, target in _targets(found):
            yield f"{target.name.lower()}.{listener.domain}"


def _is_for(certificate: x509.Certificate, host: str) -> bool:
    """RFC 6125 section 6.4, as clients do: an asterisk stands for the first label alone."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    address = address_in(host)
    if address is not None:
        return address in names.get_values_for_type(x509.IPAddress)
    wildcard = f"*.{host.partition('.')[2]}"
    return not {host, wildcard}.isdisjoint(name.lower() for name in names.get_values_for_type(x509.DNSName))


def _authority(found: Findings, path: DocumentPath, listener: HttpListener, now: float) -> None:
    proxy = listener.proxy
    if proxy is None:
        return
    where = (*path, "proxy", "certificate_authority")
    settings = proxy.certificate_authority
    authority = found.load(
        where, settings, partial(InspectionAuthority.from_config, proxy, listener.protocols)
    )
    if authority is None:
        return
    for expiry in authority.expiries:
        found.expiry(where, settings, expiry, now)
    if lacking := _lacks(authority.chain[0]):
        found.warn(
            (*where, "certificate"),
            f"it has no {lacking}: clients that are strict, as Python from 3.13 on, refuse what it signs",
            "make one with `basicConstraints`, `keyUsage` and `subjectKeyIdentifier`",
        )
    for host in dict.fromkeys(host for _, target in _targets(found) for host in _tunnel_hosts(target)):
        if why := forbidden_by(authority.chain, host):
            found.warn(
                (*where, "certificate"),
                f"no tunnel to `{host}` can be inspected, so it is refused: {why}",
                "use an authority whose name constraints allow it, or leave it so",
            )


def _lacks(certificate: x509.Certificate) -> str:
    """What RFC 5280 section 4.2.1 asks of an authority's certificate, and OpenSSL does only when it is strict."""
    kinds = {"keyUsage": x509.KeyUsage, "subjectKeyIdentifier": x509.SubjectKeyIdentifier}
    present = {type(extension.value) for extension in certificate.extensions}
    return " and no ".join(name for name, kind in kinds.items() if kind not in present)


def _tunnel_hosts(target: HttpTarget) -> Iterator[str]:
    yield target.url.host
    for host in target.hosts:
        yield host.host
