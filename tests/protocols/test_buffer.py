"""The bounded receive buffer."""

from __future__ import annotations

import pytest

from protocols.buffer import ReceiveBuffer
from protocols.errors import LimitExceeded


def test_an_empty_buffer_gives_the_data_back_uncopied() -> None:
    data = b"abc"
    assert ReceiveBuffer(10).join(data) is data


def test_it_waits_until_enough_has_come() -> None:
    buffer = ReceiveBuffer(10)
    buffer.keep(b"ab", 5)
    assert buffer.join(b"c") == b""
    assert len(buffer) == 3
    assert buffer.join(b"defg") == b"abcdefg"
    assert len(buffer) == 0
    assert buffer.join(b"h") == b"h"


def test_it_refuses_to_wait_for_more_than_its_limit() -> None:
    buffer = ReceiveBuffer(10)
    buffer.keep(b"", 10)
    with pytest.raises(LimitExceeded):
        buffer.keep(b"a", 11)
