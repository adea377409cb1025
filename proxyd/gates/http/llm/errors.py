"""A refusal in the words of a model's provider, so that its SDK raises its own exception with ours in it.

The `openai` and `anthropic` SDKs choose the exception by the status (400 BadRequestError, 401 AuthenticationError, 403
PermissionDeniedError, 404 NotFoundError, 413, 429 RateLimitError) and its text from `error.message`. They try again on
their own after 408, 409, 429 and everything from 500 up, unless the answer says `x-should-retry: false`: trying again
does not change a decision, so every refusal of ours says it. Called by `proxyd.gates.http.refusals` and by whoever has
to answer in place of a target with an `api`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from policy.llm.operations import ANTHROPIC
from protocols.http.messages import Headers

CONTENT_TYPE: Final = "application/json"
NO_RETRY: Final = ("x-should-retry", "false")

_OPENAI_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    429: "insufficient_quota",
}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    407: "authentication_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def denial(api: str, status: int, message: str, rule: str, hint: str, code: str) -> tuple[str, bytes]:
    """The content type and the body. `rule` and `hint` may be "". `code`: a word for programs, as `policy_denied`."""
    text = _sentence(message, rule, hint)
    if api == ANTHROPIC:
        error = {"type": _type(_ANTHROPIC_TYPES, status, "api_error"), "message": text}
        return CONTENT_TYPE, msgspec.json.encode({"type": "error", "error": error})
    shape: dict[str, dict[str, str | None]] = {
        "error": {
            "message": text,
            "type": _type(_OPENAI_TYPES, status, "server_error"),
            "param": None,
            "code": code,
        }
    }
    return CONTENT_TYPE, msgspec.json.encode(shape)


def denial_headers(retry_after_s: int | None = None) -> Headers:
    """What goes with a denial. `retry_after_s`: when it may be worth asking again."""
    if retry_after_s is None:
        return (NO_RETRY,)
    return (NO_RETRY, ("retry-after", str(max(1, retry_after_s))))


def _type(types: dict[int, str], status: int, otherwise: str) -> str:
    return types.get(status, "invalid_request_error" if status < 500 else otherwise)


def _sentence(message: str, rule: str, hint: str) -> str:
    text = message if message.startswith("proxyd: ") else f"proxyd: {message}"
    if rule and f"ule {rule} " not in text:
        text = f"{text.removesuffix('.')} (rule {rule})"
    return f"{text}{'' if text.endswith('.') else '.'} {hint}".strip() if hint else text
