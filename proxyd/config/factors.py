"""`factors` of listeners that know clients by a TLS certificate, by a token, or by both.

A client has to show all of one combination, and all of it has to be of one subject. Used by the modules of this
package that describe such listeners.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from policy.located_yaml import refusal
from proxyd.config.listener_base import ListenerTls

ClientFactor = Literal["certificate", "token"]
ClientFactors = tuple[ClientFactor, ...]


def sensible_client_factors(combination: ClientFactors) -> ClientFactors:
    """Raises a refusal."""
    if not combination:
        raise refusal(
            "asks for nothing: everybody would be let in", "name at least one factor, as `[certificate]`"
        )
    for index, factor in enumerate(combination):
        if factor in combination[:index]:
            raise refusal(f"`{factor}` stands twice", "name it once", at=(index,))
    return combination


def check_client_factors(factors: Sequence[ClientFactors], tls: ListenerTls | None) -> None:
    """Raises a refusal when a combination is never asked for, or TLS asks clients for something else."""
    for index, combination in enumerate(factors):
        for other, shorter in enumerate(factors):
            if (
                other != index
                and set(shorter) <= set(combination)
                and (other < index or shorter != combination)
            ):
                raise refusal(
                    f"never asked for: whoever has shown [{', '.join(shorter)}] is in already",
                    "remove this combination, or the shorter one",
                    at=("factors", index),
                )
    _check_certificates(factors, "none" if tls is None else tls.client_certificates, has_tls=tls is not None)


def _check_certificates(factors: Sequence[ClientFactors], asked: str, *, has_tls: bool) -> None:
    with_certificate = [combination for combination in factors if "certificate" in combination]
    if with_certificate and asked == "none":
        remedy = "write `client_certificates: required` and `client_ca`" if has_tls else "add `tls`"
        raise refusal(
            "certificates let in, but clients are asked for none",
            f"{remedy}, or write `factors: [[token]]`",
            at=("factors",),
        )
    if not with_certificate and asked != "none":
        raise refusal(
            "clients are asked for certificates, but no combination of `factors` has one",
            "write `client_certificates: none`, or `factors: [[certificate, token]]`",
            at=("tls", "client_certificates"),
        )
    if asked == "required" and len(with_certificate) < len(factors):
        raise refusal(
            "nobody gets as far as a token alone: a certificate is required before",
            "write `client_certificates: optional`, or remove the combinations without `certificate`",
            at=("tls", "client_certificates"),
        )
