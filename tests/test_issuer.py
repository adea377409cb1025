"""The demo's issuer, of both kinds: the gateway believes its tokens, and a rotation is a rotation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest
import trio

from demo import issuer as issuer_module
from demo.issuer import Client, IssuerFailed, Kind, LocalIssuer, new_keys
from demo.pki import DemoPki
from proxyd.config import Issuer
from proxyd.identity.oidc import TokenRefused, Tokens
from proxyd.metrics import Metrics
from tests.proxyd.identity.oidc.issuing import quiet_log

SECRET = "only-a-test"
CLIENTS = tuple(
    Client(algorithm, SECRET, {"email": f"{algorithm}@example.com", "groups": ["agents"]}, algorithm, 60)
    for algorithm in ("RS256", "ES256", "EdDSA")
)


@pytest.fixture(scope="module", params=["oidc-provider", "stand-in"])
def issuer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalIssuer]:
    directory = tmp_path_factory.mktemp("issuer")
    pki = DemoPki(directory / "pki")
    pki.issue_server()
    made = LocalIssuer(directory, pki.certificate("server"), pki.key("server"), pki.ca, CLIENTS)
    kind: Kind = request.param
    with pytest.MonkeyPatch.context() as patch:
        if kind == "stand-in":
            patch.setattr(issuer_module, "MODULES", Path("/nonexistent"))
        made.start()
    assert made.kind == kind
    yield made
    made.stop()
    made.stop()
    assert not made.is_running


def configured(issuer: LocalIssuer) -> Issuer:
    return Issuer.model_validate(
        {
            "name": "demo",
            "issuer": issuer.url,
            "audiences": ("proxyd",),
            "ca": issuer.ca,
            "claims": {"name": "email"},
        }
    )


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA"])
async def test_tokens_are_believed_until_their_key_is_withdrawn(issuer: LocalIssuer, algorithm: str) -> None:
    clock = trio.current_time()
    tokens = Tokens((configured(issuer),), log=quiet_log([]), metrics=Metrics(), monotonic=lambda: clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(tokens.run)
        old = await trio.to_thread.run_sync(issuer.token, algorithm)
        assert jwt.get_unverified_header(old)["alg"] == algorithm
        subject = await tokens.subject_of(old)
        assert (subject.name, subject.groups) == (f"{algorithm}@example.com", ("agents",))
        assert subject.claims["client_id"] == algorithm
        await trio.to_thread.run_sync(issuer.rotate, new_keys(algorithm))
        new = await trio.to_thread.run_sync(issuer.token, algorithm)
        clock += 60.0  # so that the issuer may be asked again
        assert (await tokens.subject_of(new)).name == subject.name
        clock += 60.0
        with pytest.raises(TokenRefused, match="does not publish"):
            await tokens.subject_of(old)
        nursery.cancel_scope.cancel()


def test_strangers_get_no_token(issuer: LocalIssuer) -> None:
    import ssl

    context = ssl.create_default_context(cafile=str(issuer.ca))
    with httpx.Client(verify=context, trust_env=False) as http:
        for form in (
            {"grant_type": "client_credentials", "client_id": "RS256", "client_secret": "wrong"},
            {"grant_type": "client_credentials", "client_id": "nobody", "client_secret": SECRET},
            {"grant_type": "password", "client_id": "RS256", "client_secret": SECRET},
        ):
            answer = http.post(f"{issuer.url}/token", data=form)
            assert answer.status_code in (400, 401), answer.text
            assert "access_token" not in answer.text
        keys = http.get(f"{issuer.url}/jwks").json()["keys"]
        assert len(keys) == 3
        assert not [part for key in keys for part in key if part in ("d", "p", "q", "k")]


def test_an_issuer_that_cannot_start_says_why(tmp_path: Path) -> None:
    pki = DemoPki(tmp_path / "pki")
    pki.issue_server()
    made = LocalIssuer(tmp_path, tmp_path / "none.crt", pki.key("server"), pki.ca, CLIENTS)
    with pytest.raises(IssuerFailed, match=r"none\.crt"):
        made.start()
    assert not made.is_running
