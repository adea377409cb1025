"""The replies that a channel's client is owed: in the order of its requests, whoever gives them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from protocols.ssh import messages as wire
from proxyd.gates.ssh.channel import MAX_REPLIES_OWED, Channel, Forwarded, Local
from proxyd.gates.ssh.windows import End

YES, NO = wire.ChannelSuccess(5), wire.ChannelFailure(5)


class Told(list[object]):
    """What `then` was told, in order."""

    def when(self, word: str) -> Callable[[], None]:
        return lambda: self.append(word)


@pytest.fixture
def channel() -> Channel:
    client = End([], 1000)
    client.confirmed(5, 1000, 1000)
    return Channel(0, "session", client, End([], 1000), by_client=True)


def answers(channel: Channel) -> list[wire.Message]:
    messages = [wire.parse(payload) for payload in channel.client.out]
    channel.client.out.clear()
    return messages


def test_the_gateways_own_answer_is_given_at_once(channel: Channel) -> None:
    channel.owe(Local(True))
    channel.owe(Local(False))
    assert answers(channel) == [YES, NO]


def test_answers_wait_for_those_before_them(channel: Channel) -> None:
    told = Told()
    channel.owe(Forwarded(told.append))
    channel.owe(Local(False, then=told.when("local")))
    channel.owe(Forwarded(told.append, is_shown=False))
    channel.owe(Local(True, is_shown=False, then=told.when("hidden")))
    assert answers(channel) == []
    assert channel.answered(True)
    assert (answers(channel), told) == ([YES, NO], [True, "local"])
    assert channel.answered(False)
    assert (answers(channel), told) == ([], [True, "local", False, "hidden"])
    assert not channel.owed


def test_an_answer_to_nothing(channel: Channel) -> None:
    assert not channel.answered(True)
    channel.owe(Local(True))
    assert not channel.answered(True)


def test_what_an_answer_brings_about_comes_behind_it(channel: Channel) -> None:
    channel.owe(Forwarded())
    channel.owe(Local(True, then=lambda: channel.owe(Local(False))))
    channel.owe(Forwarded())
    channel.answered(False)
    assert answers(channel) == [NO, YES]
    channel.answered(True)
    assert answers(channel) == [YES, NO]


def test_a_flood_is_noticed(channel: Channel) -> None:
    for _ in range(MAX_REPLIES_OWED):
        assert not channel.is_flooded
        channel.owe(Forwarded())
    assert channel.is_flooded


def test_a_channel_is_finished_when_both_ends_are_closed_both_ways(channel: Channel) -> None:
    channel.target.confirmed(7, 1000, 1000)
    for end in (channel.client, channel.target):
        assert not channel.is_finished
        end.send_close()
        assert not channel.is_finished
        end.close_received = True
    assert channel.is_finished


def test_an_end_that_is_left_out_is_finished_from_the_start(channel: Channel) -> None:
    channel.target.leave_out()
    channel.client.send_close()
    channel.client.close_received = True
    assert channel.is_finished
