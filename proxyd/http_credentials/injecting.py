"""What an injector is: it says which fields a request to a target carries in place of the client's own credential.

Owns the words that the parts of this package and the relay share, and which fields of a client never go on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Protocol

from protocols.http.messages import RequestHead
from proxyd.telemetry import Log

# What a client shows to the gateway, and what it could tell a target about itself that only a proxy knows. An
# underscore counts as a dash: CGI and its heirs see no difference.
CLIENT_CREDENTIAL_FIELDS: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "forwarded"),
        *(
            "x-real-ip",
            "x-client-ip",
            "client-ip",
            "true-client-ip",
            "x-true-client-ip",
            "x-cluster-client-ip",
        ),
        *("x-originating-ip", "cf-connecting-ip", "cf-connecting-ipv6", "fastly-client-ip"),
        *("x-azure-clientip", "x-azure-socketip", "x-proxyuser-ip", "x-arr-clientcert", "x-arr-ssl"),
        *("client-cert", "client-cert-chain", "x-client-cert", "x-authenticated-user", "front-end-https"),
    }
)
CLIENT_CREDENTIAL_PREFIXES: Final = (
    *("proxyd-", "x-forwarded-", "ssl-client-", "x-ssl-client-", "x-tls-client-"),
    # What proxies that know who asks tell applications: CGI's, Kubernetes', oauth2-proxy's, Grafana's, clouds'.
    *("remote-", "x-remote-", "impersonate-", "x-auth-request-", "x-webauth-", "x-authentik-", "x-pomerium-"),
    *("x-vouch-", "x-goog-authenticated-user-", "x-goog-iap-", "x-amzn-oidc-", "x-ms-client-principal"),
    *("x-ms-token-", "x-appengine-", "cf-access-", "tailscale-user-"),
)

# By which some targets let a request be another one than its first line says, or leave out their own checks: what was
# judged is what they get.
RETELLING_FIELDS: Final = frozenset(
    {
        *("x-http-method-override", "x-http-method", "x-method-override"),
        *("x-rewrite-url", "x-override-url", "x-proxy-url", "x-http-destinationurl", "x-http-path-override"),
        *("x-host", "x-http-host-override"),
        "proxy",  # a CGI program would take it for HTTP_PROXY of its environment
    }
)
RETELLING_PREFIXES: Final = ("x-original-", "x-envoy-", "x-middleware-")

# Where clients of model providers put their keys, and so a token for the gateway.
KEY_FIELDS: Final = frozenset({"x-api-key", "api-key", "x-goog-api-key"})


_NEVER: Final = CLIENT_CREDENTIAL_FIELDS | RETELLING_FIELDS
NEVER_PREFIXES: Final = CLIENT_CREDENTIAL_PREFIXES + RETELLING_PREFIXES

# A reload in the middle of a fetch, or a token that lasts for an instant: try again, but not for ever.
MAX_ATTEMPTS: Final = 3


def never_goes_on(name: str) -> bool:
    """Is `name` (in lower case) a field that no target gets from a client, whatever the login?"""
    plain = name.replace("_", "-")
    return plain in _NEVER or plain.startswith(NEVER_PREFIXES)


@dataclass(frozen=True, slots=True)
class Injected:
    """`headers`: to be set, each replacing all of its name. `removed`: more names that do not go on, in lower case."""

    headers: tuple[tuple[str, str], ...] = ()
    removed: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"Injected({', '.join(name for name, _ in self.headers)})"


class CredentialUnavailable(Exception):
    """The target's credential cannot be had. No text holds a secret.

    reason: for the log. told, hint: sentences for the client, what is wrong and what to do. is_request: it is the
    request that cannot have it, and not the gateway that has none.
    """

    def __init__(self, reason: str, told: str, hint: str, *, is_request: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.told = told
        self.hint = hint
        self.is_request = is_request


class Injector(Protocol):
    """The credential of one login. Lives as long as the daemon; its secrets are read anew at a reload.

    needs_body_hash: `ready` has to be given the SHA-256 of the body, so that the body has to be read whole before.
    """

    needs_body_hash: bool

    def ready(self, request: RequestHead, body_sha256: str | None = None) -> Injected | None:
        """For `request` as it goes to the target (`target` with its query, `authority`, all other fields).

        Quick, and waits for nothing: None says that `prepare` has to be called first. `body_sha256` in hexadecimal.
        Raises CredentialUnavailable when this request cannot have the credential.
        """

    async def prepare(self) -> None:
        """Fetch what is missing, under a deadline of its own. Raises CredentialUnavailable."""

    def invalidate(self) -> None:
        """The target has answered 401: what was fetched is not used again, unless it is quite new."""

    async def keep_fresh(self, log: Log) -> None:
        """Run in the background for as long as the daemon does: have what is fetched, or what others write anew, before
        a request needs it. Returns where nothing ends."""

    def reload(self) -> bool:
        """Read the secrets anew; True when they differ. Raises SettingsError and keeps what it has."""


async def injected_into(injector: Injector, request: RequestHead, body_sha256: str | None = None) -> Injected:
    """What `injector` gives for `request`, fetched first if it has to be. Raises CredentialUnavailable."""
    for _ in range(MAX_ATTEMPTS):
        injected = injector.ready(request, body_sha256)
        if injected is not None:
            return injected
        await injector.prepare()
    raise CredentialUnavailable(
        "what is fetched ends before it can be used",
        "The gateway's own token for this target ends at once.",
        "Tell the operators of the gateway.",
    )
