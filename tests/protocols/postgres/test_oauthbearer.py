"""OAUTHBEARER: what PostgreSQL 18's server takes is taken, and the rest refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocols.errors import RemoteProtocolError
from protocols.postgres.oauthbearer import read_initial_response, refusal


@pytest.mark.parametrize(
    ("data", "token"),
    [
        (b"n,,\x01auth=Bearer abc.def\x01\x01", "abc.def"),
        (b"y,,\x01auth=Bearer abc\x01\x01", "abc"),
        (b"n,,\x01auth=bearer abc\x01\x01", "abc"),
        (b"n,,\x01auth=BEARER   abc\x01\x01", "abc"),
        (b"n,,\x01host=db\x01port=5432\x01auth=Bearer a=b\x01\x01", "a=b"),
        (b"n,,\x01auth=\x01\x01", ""),
        (b"n,,\x01auth=Bearer \x01\x01", ""),
    ],
)
def test_sound_messages(data: bytes, token: str) -> None:
    assert read_initial_response(data) == token


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01",
        b"n,,",
        b"n,,\x01",
        b"n,,\x01\x01",
        b"n,,\x01auth=Bearer abc\x01",
        b"n,,\x01auth=Bearer abc",
        b"n,,\x01auth=Bearer abc\x01\x01\x01",
        b"n,,\x01auth=Bearer abc\x01\x01more",
        b"n,,\x01auth=Bearer abc\x01\x01host=x\x01\x01",
        b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
        b"n,,\x01host=x\x01\x01",
        b"n,,\x01auth=Basic abc\x01\x01",
        b"n,,\x01auth=Bearer\x01\x01",
        b"n,,\x01auth=abc\x01\x01",
        b"n,,\x01auth\x01\x01",
        b"n,,\x01=Bearer abc\x01\x01",
        b"n,,\x01au-th=Bearer abc\x01\x01",
        b"n,,\x01auth=Bearer a\0b\x01\x01",
        b"n,,\x01auth=Bearer \xc3\xbc\x01\x01",
        b"n,a=root,\x01auth=Bearer abc\x01\x01",
        b"p=tls-exporter,,\x01auth=Bearer abc\x01\x01",
        b"x,,\x01auth=Bearer abc\x01\x01",
        b"auth=Bearer abc\x01\x01",
    ],
)
def test_malformed_messages(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="malformed OAUTHBEARER") as caught:
        read_initial_response(data)
    assert "abc" not in str(caught.value)


@given(st.binary(max_size=60) | st.text("n,=\x01authBer abc", max_size=40).map(str.encode))
def test_no_message_does_harm(data: bytes) -> None:
    try:
        token = read_initial_response(data)
    except RemoteProtocolError:
        return
    assert data.startswith((b"n,,\x01", b"y,,\x01"))
    assert token.isascii()


def test_the_refusal_says_where_tokens_come_from() -> None:
    said = json.loads(refusal("https://login.example/.well-known/openid-configuration", ["openid", "groups"]))
    assert said == {
        "status": "invalid_token",
        "openid-configuration": "https://login.example/.well-known/openid-configuration",
        "scope": "openid groups",
    }
