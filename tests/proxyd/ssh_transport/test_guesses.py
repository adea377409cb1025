"""Whether a guess of the key exchange was right (RFC 4253, 7.1)."""

from __future__ import annotations

import pytest
from asyncssh.packet import PacketDecodeError

from proxyd.ssh_transport.relayed import is_wrong_guess
from tests.ssh_pki import string


def lists(kex: str, host_keys: str, *, follows: bool = True) -> bytes:
    names = [kex, host_keys, "aes128-ctr", "aes128-ctr", "", "", "none", "none", "", ""]
    return b"\x14" + bytes(16) + b"".join(map(string, names)) + bytes([follows]) + bytes(4)


@pytest.mark.parametrize(
    ("ours", "theirs", "is_wrong"),
    [
        (lists("a,b", "k,l"), lists("a,c", "k,m"), False),
        (lists("a,b", "k"), lists("b,a", "k"), True),
        (lists("b,a", "k"), lists("a", "k"), True),
        (lists("a", "k,l"), lists("a", "l,k"), True),
        (lists("a", "k"), lists("", ""), True),
        (lists("b", "k"), lists("a", "k", follows=False), False),
    ],
)
def test_both_have_to_prefer_the_same(ours: bytes, theirs: bytes, is_wrong: bool) -> None:
    assert is_wrong_guess(ours, theirs) is is_wrong


def test_lists_that_are_cut_short() -> None:
    with pytest.raises(PacketDecodeError):
        is_wrong_guess(lists("a", "k"), lists("a", "k")[:40])
