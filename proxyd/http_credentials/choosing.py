"""Which injector a login of a target asks for.

Called by `proxyd.gateway` once for each login, and by `proxyd.references` to check it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

from proxyd.config import HttpTarget, HttpTargetLogin
from proxyd.http_credentials import fixed
from proxyd.http_credentials.aws import AwsInjector
from proxyd.http_credentials.injecting import KEY_FIELDS, Injector
from proxyd.http_credentials.oauth2 import OAuth2Injector


def injector_for(
    target: HttpTarget, login: HttpTargetLogin, clock: Callable[[], float] = time.time
) -> Injector:
    """Reads the secrets. Raises SettingsError."""
    removed = _removed(target, login)
    if login.bearer is not None:
        return fixed.FixedInjector(partial(fixed.bearer, login.bearer, removed))
    if login.basic is not None:
        return fixed.FixedInjector(partial(fixed.basic, login.basic, removed))
    if login.header is not None:
        return fixed.FixedInjector(partial(fixed.header, login.header, removed))
    if login.oauth2 is not None:
        return OAuth2Injector(login.oauth2, removed, clock=clock)
    if login.sigv4 is not None:
        return AwsInjector(login.sigv4, removed, clock, is_tls=target.url.is_tls)
    return fixed.FixedInjector(partial(fixed.nothing, removed))  # also with a certificate, which TLS shows


def _removed(target: HttpTarget, login: HttpTargetLogin) -> frozenset[str]:
    """A key of the client's own would be used at its provider in place of the gateway's, or beside it."""
    is_key = login.header is not None and login.header.name in KEY_FIELDS
    return KEY_FIELDS if is_key or target.api is not None else frozenset()
