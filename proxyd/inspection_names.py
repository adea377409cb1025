"""The names that an authority may sign for: its name constraints (RFC 5280 section 4.2.1.10).

Pure. Called by `proxyd.inspection`, which asks before it signs: clients would refuse what is not allowed, and the
gateway can say why.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from cryptography import x509

from proxyd.tls_files import describe_name

IpAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address


def forbidden_by(authorities: Sequence[x509.Certificate], host: str) -> str:
    """Who of `authorities` may not vouch for `host`, and why; "" when all may."""
    for authority in authorities:
        try:
            constraints = authority.extensions.get_extension_for_class(x509.NameConstraints).value
        except x509.ExtensionNotFound:
            continue
        if why := _forbidden(constraints, host):
            return f"{describe_name(authority.subject)} {why}"
    return ""


def _forbidden(constraints: x509.NameConstraints, host: str) -> str:
    address = address_in(host)
    permitted = list(_covers(constraints.permitted_subtrees or (), host, address))
    if permitted and not any(permitted):
        return f"may sign for other names only than {host}"
    if any(_covers(constraints.excluded_subtrees or (), host, address)):
        return f"may not sign for {host}"
    return ""


def _covers(subtrees: Iterable[x509.GeneralName], host: str, address: IpAddress | None) -> Iterable[bool]:
    """For each subtree of the kind that `host` is: does it hold `host`?"""
    for subtree in subtrees:
        if isinstance(subtree, x509.DNSName) and address is None:
            yield _is_below(host, subtree.value.lower())
        elif isinstance(subtree, x509.IPAddress) and address is not None:
            network = subtree.value
            yield isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network) and address in network


def _is_below(host: str, domain: str) -> bool:
    if domain.startswith("."):  # no part of the RFC, but used, and then without the domain itself
        return host.endswith(domain)
    return not domain or host == domain or host.endswith(f".{domain}")


def address_in(host: str) -> IpAddress | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
