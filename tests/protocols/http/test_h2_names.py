"""The names below h2's public ones that `protocols.http.http2` stands on must be there, and mean the same."""

from __future__ import annotations

import h2.config
import h2.connection
from h2.connection import ConnectionInputs, ConnectionState, H2ConnectionStateMachine


def connection() -> h2.connection.H2Connection:
    return h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))


def test_the_state_machine_has_its_transitions_in_a_table() -> None:
    machine = connection().state_machine
    assert isinstance(machine, H2ConnectionStateMachine)
    received = (ConnectionState.CLIENT_OPEN, ConnectionInputs.RECV_GOAWAY)
    assert machine._transitions[received][1] is ConnectionState.CLOSED


def test_what_has_come_and_is_no_frame_yet_is_in_a_buffer() -> None:
    made = connection()
    made.initiate_connection()
    made.receive_data(b"\x00\x00")
    assert bytes(made.incoming_buffer._data[:3]) == b"\x00\x00"
