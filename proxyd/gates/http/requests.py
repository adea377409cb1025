"""What is known of a request (facts), and what it becomes on its way to the target.

One view: what was judged is what is sent, made anew from the parsed form. Called by `http_exchange`; pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec

from policy.facts import BodyState, HttpFacts, LlmFacts
from protocols.errors import ProtocolError
from protocols.http.json_values import parse_json
from protocols.http.media_types import media_type
from protocols.http.messages import Headers, RequestHead
from protocols.http.paths import percent_decoded, read_path
from protocols.http.targets import Destination
from proxyd.gates.http.refusals import Kind, Refusal
from proxyd.gates.http.routing import Route
from proxyd.gates.http.upgrades import OF_ONE_HOP
from proxyd.http_credentials.injecting import KEY_FIELDS, Injected, never_goes_on

FORM = "application/x-www-form-urlencoded"
# Under masks nobody gets a part of a body: a value could be cut in two, and neither half would be met.
PART_FIELDS = frozenset({"range", "if-range", "request-range", "x-ms-range"})
# Nor an answer to the question whether it is the one that they think of: an `ETag` is often a hash of it.
GUESSING_FIELDS = frozenset({"if-match", "if-none-match"})
_READING_METHODS = frozenset({"GET", "HEAD"})
# Fields of one value: how a body is read, and which page has made the request.
ONCE = ("content-type", "origin", "referer", "sec-fetch-site", "sec-fetch-mode", "sec-fetch-dest")
# By these a key that may speak for several is told for which (OpenAI's, Anthropic's).
PAYERS = frozenset(
    {"openai-organization", "openai-project", "anthropic-workspace-id", "anthropic-user-profile-id"}
)
# In any other encoding the same bytes are another text, to whoever listens to what `charset` says.
_UTF8 = frozenset({"", "utf-8", "utf8", "us-ascii", "ascii"})
# What the gateway says itself, or would let a client learn the target's credential.
_NEVER = frozenset({"te", "host", "accept-encoding", "expect", "http2-settings"})


def content_type_of(headers: Headers) -> str:
    return next((value for name, value in headers if name == "content-type"), "")


def content_encoding_of(headers: Headers) -> str:
    return ", ".join(value for name, value in headers if name == "content-encoding")


def is_plain(encoding: str) -> bool:
    return not encoding or encoding.strip().lower() == "identity"


def refuse_doubled_fields(headers: Headers) -> None:
    """Of two values some servers take the first, some the last: what was judged would not be what is read. Raises
    Refusal."""
    for name in ONCE:
        if sum(field[0] == name for field in headers) > 1:
            raise Refusal(400, Kind.PROTOCOL, f"The field {name} stands twice.", hint="Send it once.")


def without_tokens(headers: Headers, is_token: Callable[[str], bool]) -> Headers:
    """The fields without tokens for the gateway in the place of a key for the target. `is_token`: is this one?

    A client can have shown something else (a certificate, another field), and yet send its token where its SDK does.
    """
    if not any(name in KEY_FIELDS for name, _ in headers):
        return headers
    return tuple(
        [
            field
            for field in headers
            if field[0] not in KEY_FIELDS or not is_token(field[1].rpartition(" ")[2])
        ]
    )


def without_payers(headers: Headers) -> Headers:
    """The fields without those that tell a model's provider who pays: that follows from the key, which is ours."""
    return tuple([field for field in headers if field[0] not in PAYERS])


def shown_headers(headers: Headers, token_field: str) -> Headers:
    """The fields without the client's credentials: what rules see and what goes on.

    Some clients send their token in two fields at once: its copy does not go on either.
    """
    token = next((value for name, value in headers if name == token_field), "").rpartition(" ")[2]
    return tuple(
        [
            field
            for field in headers
            if field[0] != token_field
            and not never_goes_on(field[0])
            and not (token and field[0] in KEY_FIELDS and field[1] == token)
        ]
    )


def head_facts(
    head: RequestHead, destination: Destination, route: Route, host: str, scheme: str, headers: Headers
) -> HttpFacts:
    """What is known before the body. `host` and `scheme` are the target's."""
    decoded, others = destination.decoded_path, destination.other_paths
    if route.prefix:
        read = read_path(route.path, keep_encoded_slashes=True)
        decoded, others = read.decoded, read.others
    return HttpFacts(
        method=head.method,
        scheme=scheme,
        host=host,
        path=decoded,
        other_paths=others,
        query=destination.query_pairs,
        headers=headers,
        content_type=_plain_type(content_type_of(headers)),
        body_bytes=head.body_bytes,
        body_state=BodyState.NONE if head.body_bytes == 0 else BodyState.UNREAD,
        upgrade=head.upgrade,
    )


def _plain_type(value: str) -> str:
    if not value:
        return ""
    try:
        return media_type(value)[0]
    except ProtocolError:
        return value.partition(";")[0].strip().lower()[:128]


def with_body(facts: HttpFacts, body: bytes, encoding: str, *, is_whole: bool) -> HttpFacts:
    """The facts once the body is there, or as much of it as may be looked into."""
    size = len(body) if is_whole else facts.body_bytes
    state, value = (BodyState.TOO_LARGE, None) if not is_whole else _read(facts, body, encoding)
    if is_whole and not body:
        state = BodyState.NONE
    return msgspec.structs.replace(facts, body_bytes=size, body_state=state, body=value)


def _read(facts: HttpFacts, body: bytes, encoding: str) -> tuple[BodyState, object]:
    content_type = facts.content_type
    if not is_plain(encoding) or not _is_utf8(content_type_of(facts.headers)):
        return BodyState.UNKNOWN, None
    if content_type == "application/json" or content_type.endswith("+json"):
        try:
            return BodyState.JSON, parse_json(body, max_bytes=len(body))  # which `judged_body` has bounded
        except ProtocolError:
            return BodyState.BROKEN, None
    if content_type == FORM:
        try:
            return BodyState.FORM, _form(body)
        except (ValueError, ProtocolError):
            return BodyState.BROKEN, None
    return BodyState.UNKNOWN, None


def _is_utf8(content_type: str) -> bool:
    """Is a body of this type read as UTF-8 by everybody? Not when the type is none that can be read."""
    if not content_type:
        return True
    try:
        kind, parameters = media_type(content_type)
    except ProtocolError:
        return False
    return bool(kind) and parameters.get("charset", "").lower() in _UTF8


def _form(body: bytes) -> dict[str, list[str]]:
    """Names with all of their values. Raises ValueError for what is no form."""
    text = body.decode("ascii")
    found: dict[str, list[str]] = {}
    for part in text.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        found.setdefault(_unescaped(name), []).append(_unescaped(value))
    return found


def _unescaped(text: str) -> str:
    return percent_decoded(text.replace("+", " "), "the form")


def with_llm(facts: HttpFacts, llm: LlmFacts | None) -> HttpFacts:
    return facts if llm is None else msgspec.structs.replace(facts, llm=llm)


def target_head(
    head: RequestHead,
    route: Route,
    destination: Destination,
    headers: Headers,
    *,
    base_path: str,
    authority: str,
    scheme: str,
    body_bytes: int | None,
    is_masked: bool,
    forwarded: str = "",
) -> RequestHead:
    """The request as it goes to the target, but for the credential. `is_masked`: the answer has to be readable."""
    path = route.path if route.path != "*" else "*"
    target = path if path == "*" else base_path + path
    if destination.query:
        target = f"{target}?{destination.query}"
    left_out = _NEVER
    if is_masked:
        left_out |= PART_FIELDS
        if head.method in _READING_METHODS:
            left_out |= GUESSING_FIELDS
    kept = [field for field in headers if field[0] not in left_out]
    if any(name == "te" and "trailers" in value for name, value in headers):
        kept.append(("te", "trailers"))
    if head.upgrade:
        kept = [field for field in kept if field[0] not in OF_ONE_HOP]
    if is_masked:
        kept.append(("accept-encoding", "identity"))
    else:
        kept.extend(field for field in headers if field[0] == "accept-encoding")
    if forwarded:
        kept.append(("forwarded", forwarded))
    return RequestHead(
        head.method,
        target,
        scheme,
        authority,
        tuple(kept),
        body_bytes=body_bytes,
        expects_continue=head.expects_continue,
        upgrade=head.upgrade,
    )


def with_credential(head: RequestHead, injected: Injected) -> RequestHead:
    """An underscore counts as a dash: CGI and its heirs would read a field of the client's as the one put in."""
    if not injected.headers and not injected.removed:
        return head
    replaced = {name.replace("_", "-") for name, _ in injected.headers} | injected.removed
    kept = tuple([field for field in head.headers if field[0].replace("_", "-") not in replaced])
    return msgspec.structs.replace(head, headers=(*kept, *injected.headers))


def trailers_behind(head: RequestHead | None, trailers: Headers) -> Headers:
    """What of `trailers` goes on behind the body of `head`: what could in a head, and nothing that is said there.

    Some servers put the two together, and take the last: of the target's credential too.
    """
    if not trailers:
        return trailers
    said = set() if head is None else {name.replace("_", "-") for name, _ in head.headers}
    return tuple([field for field in shown_headers(trailers, "") if field[0].replace("_", "-") not in said])


def told_counts(counts: Counter[str]) -> dict[str, int]:
    return {name: number for name, number in counts.items() if number}
