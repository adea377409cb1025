"""A refusal in the provider's shape: the real SDKs raise their own exceptions with our words, and do not ask again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import anthropic
import openai
import pytest

from proxyd.gates.http.llm.errors import denial, denial_headers
from tests.proxyd.gates.http.llm.canned import CannedServer, answering

WORDS = "proxyd: this model is not for you (rule no-large-models). Use gpt-4o-mini."
HELLO = [{"role": "user", "content": "Hello"}]


@contextmanager
def refusing(api: str, status: int, wait: int | None = None) -> Iterator[CannedServer]:
    content_type, body = denial(
        api, status, "this model is not for you", "no-large-models", "Use gpt-4o-mini.", "policy_denied"
    )
    with answering(status, (("content-type", content_type), *denial_headers(wait)), body) as server:
        yield server


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_openai_sdk_raises_its_own_exception(
    status: int, kind: type[openai.APIStatusError], is_stream: bool
) -> None:
    with (
        refusing("openai", status) as server,
        openai.OpenAI(base_url=f"{server.url}/v1", api_key="k") as client,
    ):
        with pytest.raises(kind) as caught:
            client.chat.completions.create(model="gpt-4o", messages=HELLO, stream=is_stream)  # type: ignore[call-overload]
        with pytest.raises(kind):
            client.responses.create(model="gpt-4o", input="Hello")
        assert server.asked == 2, "it was asked again, in vain"
    assert WORDS in str(caught.value)
    assert caught.value.code == "policy_denied"
    assert isinstance(caught.value.body, dict) and caught.value.body["message"] == WORDS


@pytest.mark.parametrize(
    ("status", "kind", "error_type"),
    [
        (400, anthropic.BadRequestError, "invalid_request_error"),
        (401, anthropic.AuthenticationError, "authentication_error"),
        (403, anthropic.PermissionDeniedError, "permission_error"),
        (404, anthropic.NotFoundError, "not_found_error"),
        (413, anthropic.APIStatusError, "request_too_large"),
        (429, anthropic.RateLimitError, "rate_limit_error"),
        (503, anthropic.APIStatusError, "overloaded_error"),
    ],
)
@pytest.mark.parametrize("is_stream", [False, True])
def test_the_anthropic_sdk_raises_its_own_exception(
    status: int, kind: type[anthropic.APIStatusError], error_type: str, is_stream: bool
) -> None:
    with (
        refusing("anthropic", status) as server,
        anthropic.Anthropic(base_url=server.url, api_key="k") as client,
    ):
        with pytest.raises(kind) as caught:
            client.messages.create(model="claude-demo", max_tokens=9, messages=HELLO, stream=is_stream)  # type: ignore[call-overload]
        assert server.asked == 1, "it was asked again, in vain"
    assert WORDS in str(caught.value)
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["error"] == {"type": error_type, "message": WORDS}


@pytest.mark.parametrize("api", ["openai", "anthropic"])
def test_when_it_is_worth_asking_again_is_said(api: str) -> None:
    """The SDKs would wait for it and ask again, for hours: that they do not is `x-should-retry`."""
    with refusing(api, 429, 5) as server:
        if api == "openai":
            with (
                openai.OpenAI(base_url=server.url, api_key="k") as client,
                pytest.raises(openai.RateLimitError) as caught,
            ):
                client.models.list()
        else:
            with (
                anthropic.Anthropic(base_url=server.url, api_key="k") as other,
                pytest.raises(anthropic.RateLimitError) as caught,
            ):
                other.models.list()
        assert server.asked == 1
    assert caught.value.response.headers["retry-after"] == "5"


@pytest.mark.parametrize(
    ("message", "rule", "hint", "expected"),
    [
        ("no", "", "", "proxyd: no"),
        ("no", "r", "", "proxyd: no (rule r)"),
        ("No. Rule r is full.", "r", "", "proxyd: No. Rule r is full."),
        ("no", "", "Do this.", "proxyd: no. Do this."),
        ("No.", "", "Do this.", "proxyd: No. Do this."),
        ("proxyd: no", "r", "Do this.", "proxyd: no (rule r). Do this."),
        ('a "quoted" word\n\u202e', "", "", 'proxyd: a "quoted" word\n\u202e'),
    ],
)
def test_words(message: str, rule: str, hint: str, expected: str) -> None:
    for api in ("openai", "anthropic"):
        _, body = denial(api, 403, message, rule, hint, "c")
        assert json.loads(body)["error"]["message"] == expected


def test_headers() -> None:
    assert denial_headers() == (("x-should-retry", "false"),)
    assert denial_headers(0)[1] == ("retry-after", "1")
