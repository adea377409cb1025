"""What the gateway shows HTTP targets in place of the clients' own credentials.

`injecting` says what an injector is, `fixed`, `oauth2` and `aws` are the kinds of it (`sigv4` and `aws_keys` belong to
the last), and `choosing` makes the one that a login asks for. The relay calls `ready` for each request.
"""

from proxyd.http_credentials.choosing import injector_for
from proxyd.http_credentials.injecting import (
    CLIENT_CREDENTIAL_FIELDS,
    KEY_FIELDS,
    CredentialUnavailable,
    Injected,
    Injector,
    injected_into,
    never_goes_on,
)
from proxyd.http_credentials.secrets import TargetCredentialError

__all__ = [
    "CLIENT_CREDENTIAL_FIELDS",
    "KEY_FIELDS",
    "CredentialUnavailable",
    "Injected",
    "Injector",
    "TargetCredentialError",
    "injected_into",
    "injector_for",
    "never_goes_on",
]
