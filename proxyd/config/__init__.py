"""The daemon's configuration: the model of `proxyd.yaml`, and reading it.

`fields` has the types of single values, `listeners`, `identity` and `targets` the sections of those names, and
`document` the whole file and how it is read. Nothing here opens any file but the configuration itself; what it
refers to is looked at by `proxyd.references`.
"""

from proxyd.config.document import (
    DEFAULT_PATH,
    Admin,
    Config,
    Limits,
    LoadedConfig,
    Log,
    Masking,
    MetricsEndpoint,
    SshAuthority,
    Tapes,
    read_text,
)
from proxyd.config.factors import ClientFactor, ClientFactors
from proxyd.config.fields import SecretSource
from proxyd.config.host_names import HostPattern, TargetUrl, normal_host, normal_port
from proxyd.config.http_listener import (
    CertificateAuthority,
    HttpListener,
    HttpListenerLimits,
    HttpListenerTimeouts,
    HttpProxy,
    HttpVersion,
)
from proxyd.config.http_target import (
    HttpBasic,
    HttpClientCertificate,
    HttpHeader,
    HttpOAuth2,
    HttpSigV4,
    HttpTarget,
    HttpTargetLimits,
    HttpTargetLogin,
    HttpTargetTimeouts,
)
from proxyd.config.identity import (
    CertificateGroups,
    CertificateIdentity,
    Identity,
    Person,
    SshCertificateIdentity,
)
from proxyd.config.issuers import Issuer, TokenClaims
from proxyd.config.listener_base import ListenerBase, ListenerLimits, ListenerTls
from proxyd.config.listeners import (
    Factor,
    Listener,
    PostgresListener,
    SshListener,
    SshListenerLimits,
)
from proxyd.config.target_base import Login, LoginBase, TargetBase, TargetTls
from proxyd.config.targets import (
    ANY_DATABASE,
    HostKeys,
    PostgresLogin,
    PostgresTarget,
    SshTarget,
    SshTargetLogin,
    Target,
    TargetCatalog,
)

__all__ = [
    "ANY_DATABASE",
    "DEFAULT_PATH",
    "Admin",
    "CertificateAuthority",
    "CertificateGroups",
    "CertificateIdentity",
    "ClientFactor",
    "ClientFactors",
    "Config",
    "Factor",
    "HostKeys",
    "HostPattern",
    "HttpBasic",
    "HttpClientCertificate",
    "HttpHeader",
    "HttpListener",
    "HttpListenerLimits",
    "HttpListenerTimeouts",
    "HttpOAuth2",
    "HttpProxy",
    "HttpSigV4",
    "HttpTarget",
    "HttpTargetLimits",
    "HttpTargetLogin",
    "HttpTargetTimeouts",
    "HttpVersion",
    "Identity",
    "Issuer",
    "Limits",
    "Listener",
    "ListenerBase",
    "ListenerLimits",
    "ListenerTls",
    "LoadedConfig",
    "Log",
    "Login",
    "LoginBase",
    "Masking",
    "MetricsEndpoint",
    "Person",
    "PostgresListener",
    "PostgresLogin",
    "PostgresTarget",
    "SecretSource",
    "SshAuthority",
    "SshCertificateIdentity",
    "SshListener",
    "SshListenerLimits",
    "SshTarget",
    "SshTargetLogin",
    "Tapes",
    "Target",
    "TargetBase",
    "TargetCatalog",
    "TargetTls",
    "TargetUrl",
    "TokenClaims",
    "normal_host",
    "normal_port",
    "read_text",
]
