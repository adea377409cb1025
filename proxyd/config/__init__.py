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
from proxyd.config.fields import SecretSource
from proxyd.config.identity import (
    CertificateGroups,
    CertificateIdentity,
    Identity,
    Person,
    SshCertificateIdentity,
)
from proxyd.config.listeners import (
    Factor,
    Listener,
    ListenerBase,
    ListenerLimits,
    ListenerTls,
    PostgresListener,
    SshListener,
    SshListenerLimits,
)
from proxyd.config.targets import (
    ANY_DATABASE,
    HostKeys,
    Login,
    PostgresLogin,
    PostgresTarget,
    SshTarget,
    SshTargetLogin,
    Target,
    TargetBase,
    TargetCatalog,
    TargetTls,
)

__all__ = [
    "ANY_DATABASE",
    "DEFAULT_PATH",
    "Admin",
    "CertificateGroups",
    "CertificateIdentity",
    "Config",
    "Factor",
    "HostKeys",
    "Identity",
    "Limits",
    "Listener",
    "ListenerBase",
    "ListenerLimits",
    "ListenerTls",
    "LoadedConfig",
    "Log",
    "Login",
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
    "read_text",
]
