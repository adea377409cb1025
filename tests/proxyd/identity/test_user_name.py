"""The user name of SSH clients: what is taken, and that everything else is refused and shown harmlessly."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxyd.identity.user_name import MAX_USER_NAME_BYTES, UserName, UserNameError, parse_user_name


@pytest.mark.parametrize(
    ("text", "login", "target"),
    [
        ("deploy+web1", "deploy", "web1"),
        ("root+db.example-1", "root", "db.example-1"),
        ("alice", "alice", None),
        ("_svc+web_1", "_svc", "web_1"),
        ("alice@example.com+web1", "alice@example.com", "web1"),
        ("4711+4712", "4711", "4712"),
        ("a" * 127 + "+" + "b" * 128, "a" * 127, "b" * 128),
    ],
)
def test_login_and_target(text: str, login: str, target: str | None) -> None:
    name = parse_user_name(text)
    assert name == UserName(login, target)
    assert str(name) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "+",
        "deploy+",
        "+web1",
        "deploy+web1+",
        "deploy+web1+web2",
        "deploy++web1",
        "deploy+web1/../web2",
        "../deploy+web1",
        "deploy+../web1",
        "deploy+..",
        "a..b+web1",
        "deploy+web..1",
        ".+web1",
        ".hidden+web1",
        "deploy+.web1",
        "/etc/passwd+web1",
        "deploy/x+web1",
        "deploy\\x+web1",
        "deploy+web1\n",
        "deploy\n+web1",
        "dep\rloy+web1",
        "deploy+we\0b1",
        "deploy+web1\x1b[2J",
        "deploy\t+web1",
        "deploy +web1",
        " deploy+web1",
        "-oProxyCommand=x+web1",
        "deploy+-web1",
        "@x+web1",
        "deploy+web1:22",
        "$(id)+web1",
        "deploy+web1;id",
        "d\u0435ploy+web1",  # a Cyrillic letter
        "deploy\uff0bweb1",  # a wide plus
        "deploy+web1\u202e",  # turns the writing direction
        "deploy\ud800+web1",
        "x" * 10_000,
        "deploy+" + "../" * 3000,
        "é" * 200,
    ],
)
def test_what_is_refused(text: str) -> None:
    with pytest.raises(UserNameError) as caught:
        parse_user_name(text)
    shown = str(caught.value)
    assert shown.isascii()
    assert shown.isprintable()
    assert len(shown) < 700
    assert "LOGIN+TARGET" in shown


@given(st.text(max_size=400))
@settings(deadline=None)
def test_whatever_is_taken_is_harmless(text: str) -> None:
    try:
        name = parse_user_name(text)
    except UserNameError:
        return
    assert str(name) == text
    assert len(text) <= MAX_USER_NAME_BYTES
    assert text.isascii()
    assert text.isprintable()
    for bad in ("/", "\\", "..", " "):
        assert bad not in text
    assert not text.startswith("-")
