"""`listeners`: where clients come in, what a listener shows them and what it wants to see of them.

One model a protocol, told apart by `protocol`; HTTP's is in `http_listener`. Used by the doors and by
`proxyd.references`.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from policy.located_yaml import Duration, refusal
from proxyd.config.factors import ClientFactor, ClientFactors, check_client_factors, sensible_client_factors
from proxyd.config.fields import FilePath, Some
from proxyd.config.http_listener import HttpListener
from proxyd.config.listener_base import ListenerBase, ListenerLimits, ListenerTls

Factor = Literal["certificate", "public_key", "totp", "token"]
Factors = tuple[Factor, ...]


class PostgresListener(ListenerBase):
    """`factors`: combinations, of which a client has to show one. `token_method`: how it is asked for a token."""

    protocol: Literal["postgres"] = Field(examples=["postgres"])
    tls: ListenerTls = Field(
        examples=["{certificate: pki/server.crt, key: pki/server.key, client_ca: pki/ca.crt}"]
    )
    factors: Some[Annotated[ClientFactors, AfterValidator(sensible_client_factors)]] = (("certificate",),)
    token_method: Literal["password", "oauthbearer"] = "password"  # noqa: S105 (a way of asking)

    @model_validator(mode="after")
    def _factors_can_be_shown(self) -> Self:
        check_client_factors(self.factors, self.tls)
        return self

    def takes(self, factor: ClientFactor) -> bool:
        """Does any combination ask for `factor`?"""
        return any(factor in combination for combination in self.factors)


class SshListenerLimits(ListenerLimits):
    """`handshake_timeout`: people type codes. `channels`: open at a time on one connection. `attempts`: failed ones."""

    handshake_timeout: Duration = 60.0
    channels: int = Field(default=100, ge=1, le=10_000)
    attempts: int = Field(default=6, ge=1, le=100)


def _sensible(combination: Factors) -> Factors:
    if not combination:
        raise refusal(
            "asks for nothing: everybody would be let in", "name at least one factor, as `[certificate]`"
        )
    if combination[0] == "totp":
        raise refusal(
            "`totp` comes first: who knows a name could guess codes, and codes say nothing about who asks",
            "let a `certificate` or a `public_key` come before it",
        )
    for index, factor in enumerate(combination):
        # Two different keys are two factors; a second code would come from the same device.
        if factor != "public_key" and factor in combination[:index]:
            raise refusal(f"`{factor}` stands twice", "name it once", at=(index,))
    return combination


class SshListener(ListenerBase):
    """`factors`: combinations, of which a client has to show one, in its order.

    `keepalive`: after so many seconds of silence client and target are asked whether they are there.
    """

    protocol: Literal["ssh"] = Field(examples=["ssh"])
    host_keys: Some[FilePath] = Field(examples=["[ssh/host_ed25519]"])
    host_certificates: tuple[FilePath, ...] = ()
    client_ca: FilePath | None = None
    revoked_keys: FilePath | None = None
    factors: Some[Annotated[Factors, AfterValidator(_sensible)]] = (("certificate",),)
    keepalive: Duration = 30.0
    limits: SshListenerLimits = SshListenerLimits()

    @model_validator(mode="after")
    def _factors_fit_together(self) -> Self:
        for index, combination in enumerate(self.factors):
            for other, shorter in enumerate(self.factors):
                if (
                    other != index
                    and combination[: len(shorter)] == shorter
                    and (other < index or combination != shorter)
                ):
                    raise refusal(
                        f"never asked for: whoever has shown [{', '.join(shorter)}] is in already",
                        "remove this combination, or the shorter one",
                        at=("factors", index),
                    )
        self._questions_are_told_apart()
        if self.takes("certificate") and self.client_ca is None:
            raise refusal(
                "certificates let in, but nobody is trusted to issue them",
                "add `client_ca`, the public key of the authority that signs users' keys, "
                "or write `factors: [[public_key]]`",
                at=("factors",),
            )
        return self

    def _questions_are_told_apart(self) -> None:
        """Codes and tokens are asked for by the same method, and the client shows one question."""
        asked: dict[Factors, Factor] = {}
        for index, combination in enumerate(self.factors):
            for number, factor in enumerate(combination):
                if factor in ("totp", "token") and asked.setdefault(combination[:number], factor) != factor:
                    raise refusal(
                        "a code or a token may come at the same moment, and only one can be asked for",
                        "put them in one order in all combinations, or on two listeners",
                        at=("factors", index),
                    )

    def takes(self, factor: Factor) -> bool:
        """Does any combination ask for `factor`?"""
        return any(factor in combination for combination in self.factors)


Listener = PostgresListener | SshListener | HttpListener
