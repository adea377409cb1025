"""The bench of tokens measures what it says; how long that takes is not tested."""

from __future__ import annotations

import json

import pytest

from bench import token_check


def test_every_kind_of_signature_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["token_check", "--json", "--checks", "3"])
    assert token_check.main() == 0
    found = json.loads(capsys.readouterr().out)
    assert found.keys() == {"RS256", "ES256", "EdDSA"}
    for numbers in found.values():
        assert min(numbers.values()) > 0
