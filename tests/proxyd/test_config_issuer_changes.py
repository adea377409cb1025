"""What of an issuer may change without another look at those who have come with its tokens."""

from __future__ import annotations

import pytest

from proxyd.config import Issuer

BEFORE = {
    "name": "company",
    "issuer": "https://login.example",
    "audiences": ["proxyd", "more"],
    "authorized_parties": ["agent"],
    "algorithms": ["RS256", "ES256"],
}


def written(changes: dict[str, object]) -> Issuer:
    values = BEFORE | changes
    return Issuer.model_validate(
        {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    )


@pytest.mark.parametrize(
    ("changes", "is_believed"),
    [
        ({}, True),
        ({"audiences": ["more", "proxyd", "another"]}, True),
        ({"audiences": ["proxyd"]}, False),
        ({"authorized_parties": ["agent", "robot"]}, True),
        ({"authorized_parties": ["robot"]}, False),
        # Where none are listed something else is asked of tokens for several audiences.
        ({"authorized_parties": []}, False),
        ({"algorithms": ["ES256", "RS256", "EdDSA"]}, True),
        ({"algorithms": ["ES256"]}, False),
        ({"claims": {"name": "email"}}, False),
        ({"group_map": {"dba": ("admins",)}}, False),
        ({"name_prefix": "partner:"}, False),
        ({"name": "renamed"}, False),
        # How keys are fetched says nothing about tokens that were believed.
        ({"refresh": "1h", "timeout": "9s", "clock_skew": "1s", "scopes": ["openid", "email"]}, True),
    ],
)
def test_who_was_believed_is_believed(changes: dict[str, object], is_believed: bool) -> None:
    assert written(changes).believes_as(written({})) is is_believed


def test_an_issuer_that_began_to_list_its_clients() -> None:
    """Whoever was given a token before may not be one of them."""
    assert not written({}).believes_as(written({"authorized_parties": []}))
