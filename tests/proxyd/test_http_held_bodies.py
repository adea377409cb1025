"""Room for bodies that are held: for all together, and never all of it for one."""

from __future__ import annotations

from proxyd.http_held_bodies import MAX_HELD_BYTES, MAX_HELD_BYTES_OF_SUBJECT, HeldBodies


def test_nobody_takes_all_of_it() -> None:
    held = HeldBodies()
    assert held.take("alice", MAX_HELD_BYTES_OF_SUBJECT)
    assert not held.take("alice", 1)
    assert held.take("bob", 1)
    held.give_back("alice", MAX_HELD_BYTES_OF_SUBJECT)
    assert held.take("alice", 1)
    assert held.total == 2


def test_all_together_have_an_end() -> None:
    held = HeldBodies()
    assert held.take("alice", MAX_HELD_BYTES_OF_SUBJECT)
    assert held.take("bob", MAX_HELD_BYTES - MAX_HELD_BYTES_OF_SUBJECT)
    assert not held.take("carol", 1)
    held.give_back("bob", 1)
    assert held.take("carol", 1)
    assert not held.take("carol", 1)
