"""The `http` section of a rule, key by key, and each pattern in it: what can match nothing is a fault.

`docs/policy.md` is the reference for people; keep the two together. Called by `policy.sections`.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from policy.http_rules.paths import UrlPattern
from policy.json_paths import JsonPath
from policy.located_yaml import Section, Size, refusal
from policy.section_types import Text, patterned

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_HOST = re.compile(r"(?:[a-z0-9_*-]+(?:\.[a-z0-9_*-]+)*|\[[0-9a-f:.]+\])(?::(?:[0-9]{1,5}|\*))?")
_TYPE = re.compile(r"[a-z0-9!#$&^_.+*-]+/[a-z0-9!#$&^_.+*-]+|\*")
# The gateway takes these out of every request before it is judged, with "_" for "-" too.
NEVER_SEEN = frozenset(
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
        *("x-http-method-override", "x-http-method", "x-method-override"),
        *("x-rewrite-url", "x-override-url", "x-proxy-url", "x-http-destinationurl", "x-http-path-override"),
        *("x-host", "x-http-host-override", "proxy"),
    }
)
NEVER_SEEN_PREFIXES = (
    *("proxyd-", "x-forwarded-", "ssl-client-", "x-ssl-client-", "x-tls-client-"),
    *("remote-", "x-remote-", "impersonate-", "x-auth-request-", "x-webauth-", "x-authentik-", "x-pomerium-"),
    *("x-vouch-", "x-goog-authenticated-user-", "x-goog-iap-", "x-amzn-oidc-", "x-ms-client-principal"),
    *("x-ms-token-", "x-appengine-", "cf-access-", "tailscale-user-"),
    *("x-original-", "x-envoy-", "x-middleware-"),
)
_FRAMING = frozenset(
    {"content-length", "transfer-encoding", "connection", "te", "trailer", "upgrade", "host"}
)


def _method(text: str) -> str:
    if text == "*":
        return text
    if _TOKEN.fullmatch(text) is None or "*" in text:
        raise refusal(
            f"`{text}` is not a method", 'write methods in full, as in `[GET, HEAD]`, or `["*"]` for all'
        )
    if text != text.upper():
        raise refusal(f"`{text}` is not written as a method is sent", f"write `{text.upper()}`")
    if text in ("TRACE", "TRACK"):
        raise refusal(
            f"`{text}` never reaches a target", "remove it: it would answer with the target's credentials"
        )
    if text == "CONNECT":
        raise refusal("`CONNECT` never reaches a target", "remove it: what goes through the tunnel is judged")
    return text


def _host(text: str) -> str:
    if _HOST.fullmatch(text.lower().rstrip(".")) is None:
        raise refusal(
            f"`{text}` is not the name of a host", "write a name without scheme and path, as in `*.internal`"
        )
    return text


def _type(text: str) -> str:
    if _TYPE.fullmatch(text) is None:
        raise refusal(
            f"`{text}` is not a content type",
            "write it in lower case without parameters, as in `application/json` or `text/*`",
        )
    return text


def _header_name(text: str) -> str:
    if _TOKEN.fullmatch(text) is None or "*" in text:
        raise refusal(f"`{text}` is not the name of a header field", "write one name, as in `x-env`")
    plain = text.lower().replace("_", "-")
    if plain in NEVER_SEEN or plain.startswith(NEVER_SEEN_PREFIXES):
        raise refusal(
            f"`{text}` never goes on to a target, and rules never see it",
            "say who is meant by `roles` and what by the other keys, or remove it",
        )
    if text.lower() in _FRAMING:
        better = {"content-length": "`body_bytes`", "host": "`hosts`", "upgrade": "`upgrade`"}.get(
            text.lower()
        )
        raise refusal(
            f"`{text}` is made anew for the target, and rules never see it",
            f"use {better}" if better else "remove it",
        )
    return text


class ValuesSection(Section):
    """Written as a list of texts, or as one of the words `absent` and `present`."""

    word: Literal["absent", "present"] | None = None
    values: Annotated[tuple[Text, ...], Field(min_length=1)] | None = None


def _values(value: Any) -> Any:
    if isinstance(value, list):
        return {"values": tuple(value)}
    if value in ("absent", "present"):
        return {"word": value}
    if isinstance(value, str):
        raise refusal(
            f"`{value}` is not a list", f"write `[{value}]`, or one of the words `absent` and `present`"
        )
    raise refusal("not a list of values", "write a list of texts, as in `[open]`, or `absent`, or `present`")


Values = Annotated[ValuesSection, BeforeValidator(_values)]
Methods = Annotated[tuple[Annotated[Text, AfterValidator(_method)], ...], Field(min_length=1)]
Hosts = Annotated[tuple[Annotated[Text, AfterValidator(_host)], ...], Field(min_length=1)]
Paths = Annotated[tuple[Annotated[Text, patterned(UrlPattern)], ...], Field(min_length=1)]
Types = Annotated[tuple[Annotated[Text, AfterValidator(_type)], ...], Field(min_length=1)]
HeaderName = Annotated[Text, AfterValidator(_header_name)]


class SizeSection(Section):
    max: Size | None = Field(default=None, examples=["1MiB"])
    min: Size | None = Field(default=None, examples=["1MiB"])

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if (self.max is None) == (self.min is None):
            raise refusal("not one bound", "give `max` in an allow rule, `min` in a deny or hold rule")
        return self

    def check_effect(self, effect: str) -> None:
        """Refuses (with its place below the rule) what means nothing with the rule's `effect`."""
        if effect == "allow" and self.min is not None:
            raise refusal(
                "a rule that allows only what is large",
                "write `max`: it is allowed up to there",
                at=("http", "body_bytes", "min"),
            )
        if effect != "allow" and self.max is not None:
            raise refusal(
                f"a rule that says {effect} for what is small",
                f"write `min`: from there on the rule says {effect}",
                at=("http", "body_bytes", "max"),
            )


Number = Annotated[float, Field(allow_inf_nan=False)]


class BodySection(Section):
    """Written as a list of values, as one of the words `absent` and `present`, or as bounds."""

    word: Literal["absent", "present"] | None = None
    values: Annotated[tuple[Text | int | float | bool | None, ...], Field(min_length=1)] | None = None
    min: Number | None = Field(default=None, examples=["1"])
    max: Number | None = Field(default=None, examples=["100"])

    @model_validator(mode="after")
    def _can_hold(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal("says nothing", "write a list of values, `{max: 100}`, `absent` or `present`")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise refusal("no number is between these", "make `min` the smaller one", at=("min",))
        return self


def _body_values(value: Any) -> Any:
    if isinstance(value, dict):
        for key in value:
            if key not in ("min", "max"):
                raise refusal(
                    f"`{key}` is not a bound", "write `min`, `max`, or a list of values instead", at=(key,)
                )
        return value
    if isinstance(value, (bool, int, float)):
        shown = str(value).lower() if isinstance(value, bool) else value
        raise refusal(f"{shown} is not a list", f"write `[{shown}]`, or bounds as in `{{max: 100}}`")
    return _values(value)


BodyValues = Annotated[BodySection, BeforeValidator(_body_values)]
BodyPath = Annotated[Text, patterned(JsonPath.parse)]


class HttpMatcher(Section):
    methods: Methods | None = Field(default=None, examples=["[GET, HEAD]"])
    hosts: Hosts | None = Field(default=None, examples=['["*.internal"]'])
    paths: Paths | None = Field(default=None, examples=['["/v1/customers/{id}", "/static/**"]'])
    query: Annotated[dict[Text, Values], Field(min_length=1)] | None = Field(
        default=None, examples=["{status: [open], debug: absent}"]
    )
    headers: Annotated[dict[HeaderName, Values], Field(min_length=1)] | None = Field(
        default=None, examples=['{x-env: ["prod*"]}']
    )
    content_types: Types | None = Field(default=None, examples=["[application/json]"])
    body: Annotated[dict[BodyPath, BodyValues], Field(min_length=1)] | None = Field(
        default=None, examples=['{"$.amount": {max: 100}}']
    )
    body_bytes: SizeSection | None = Field(default=None, examples=["{max: 1MiB}"])
    upgrade: Literal["websocket"] | None = Field(default=None, examples=["websocket"])

    @model_validator(mode="after")
    def _can_match(self) -> Self:
        if all(value is None for value in dict(self).values()):
            raise refusal(
                "says nothing about what it matches",
                'give `methods` (["*"] is all), `paths` (["/**"] is all), `hosts`, ...',
            )
        return self
