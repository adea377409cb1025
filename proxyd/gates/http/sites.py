"""Pages of other sites: what a browser shows by itself must not do their work.

A certificate, the password of a proxy and one that was typed into the browser's own window go with every request to
the place that they are for, whichever page asks. So a request that comes with nothing else, and that another site's
page has made, is refused. Browsers tell: by `Origin` (RFC 6454), and by `Sec-Fetch-Site` (Fetch Metadata) also where
there is no Origin, as for a picture or a script. Programs that are no browsers send neither. Pure; called by
`http_exchange`.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TypeAlias

from protocols.errors import RemoteProtocolError
from protocols.http.messages import Headers, RequestHead
from protocols.http.targets import Destination, read_host
from proxyd.gates.http.refusals import Kind, Refusal

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port, as `Destination` has them."""

AUTHORIZATION = "authorization"
# Where a page asks for its own, and where nobody's page asks: what was typed, a bookmark.
_OWN = frozenset({"same-origin", "none"})
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_ORIGIN = re.compile(r"(https?)://([^/?#]+)", re.IGNORECASE)  # of a URL its beginning


def refuse_other_sites(
    head: RequestHead, asked: Destination, token_field: str, trusted: Collection[Origin]
) -> None:
    """`token_field`: where the token was, "" without one. `trusted`: origins of the target's choice. Raises Refusal.

    A link that is followed from another site may come here: what it leads to is shown to the person, not to the page.
    """
    if not _is_shown_by_browsers(head.headers, token_field):
        return
    told = _value(head.headers, "origin")
    if told:
        origin = _read(told, is_whole=True)
        if origin is not None and origin in trusted:
            return
        if origin != (asked.scheme, asked.host, asked.port):
            raise _refused(f"a page of {told[:100]!r}")
    site = _value(head.headers, "sec-fetch-site").lower()
    if not site or site in _OWN or _is_followed_link(head):
        return
    # Pictures and scripts come without an Origin. A page can keep its Referer back, but not write another site's.
    origin = _read(_value(head.headers, "referer"))
    if origin is None or origin not in trusted:
        raise _refused(f"a page of another site ({site[:20]!r})")


def _is_shown_by_browsers(headers: Headers, token_field: str) -> bool:
    if token_field == AUTHORIZATION:
        return _value(headers, token_field)[:6].lower() == "basic "
    return token_field in {"", "proxy-authorization"}


def _is_followed_link(head: RequestHead) -> bool:
    """Not a frame, and not a form that posts: those are the other site's doing."""
    return (
        head.method in _SAFE_METHODS
        and _value(head.headers, "sec-fetch-mode") == "navigate"
        and _value(head.headers, "sec-fetch-dest") == "document"
    )


def _read(text: str, *, is_whole: bool = False) -> Origin | None:
    """The origin of a URL; None for what is no site ("null", a browser's own pages). `is_whole`: nothing follows it."""
    match = _ORIGIN.match(text)
    if match is None or (is_whole and match.end() != len(text)):
        return None
    scheme = match[1].lower()
    try:
        return (scheme, *read_host(match[2], scheme))
    except RemoteProtocolError:
        return None


def _value(headers: Headers, name: str) -> str:
    return next((value for key, value in headers if key == name), "")


def _refused(who: str) -> Refusal:
    return Refusal(
        403,
        Kind.NOT_ADMITTED,
        "The request was made by a page of another site, which would use what this browser shows by itself.",
        hint="Send a token as `Authorization: Bearer` (a tunnel's own does not count), open the address itself, or ask "
        "the operators of the gateway to name the page's site in `origins` of the target.",
        reason=f"cross-site request by {who}",
    )
