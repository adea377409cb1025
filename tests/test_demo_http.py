"""The demo's HTTP side: the shop's API alone, the script that asks a model, and the tour with the stand-in for the
issuer."""

from __future__ import annotations

import io
import json
import os
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509

from demo import issuer as issuer_module
from demo.http_stage import API_HOST, ASK_MODEL, INSPECTION, has_curl, has_http2
from demo.http_steps import http_steps_for
from demo.model import ModelServer
from demo.model_replies import CUSTOMER
from demo.shop import make_shop
from demo.shop_api import MAX_BODY_BYTES, ShopApi, note
from demo.stage import Stage
from demo.steps import scene_of
from demo.tour import run_tour

KEY = "key-of-the-api"
MODEL_KEY = "key-of-the-model"


@pytest.fixture(scope="module")
def api() -> Iterator[ShopApi]:
    with ShopApi(make_shop(), KEY) as running:
        yield running


@pytest.fixture
def http(api: ShopApi) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=api.url, headers={"authorization": f"Bearer {KEY}"}, trust_env=False
    ) as client:
        yield client


@pytest.mark.parametrize("credential", [{}, {"authorization": "Bearer another"}, {"x-api-key": KEY}])
def test_the_api_answers_nobody_without_its_key(api: ShopApi, credential: dict[str, str]) -> None:
    answer = httpx.get(f"{api.url}/customers/1", headers=credential, trust_env=False)
    assert (answer.status_code, list(answer.json())) == (401, ["error"])


def test_the_api_says_what_came_with_its_key(http: httpx.Client) -> None:
    said = http.get("/whoami", headers={"x-more": "1"}).json()
    assert said["account"] == "gateway"
    assert {"authorization", "x-more"} <= set(said["fields"])


def test_the_api_tells_of_the_shops_customers(http: httpx.Client) -> None:
    customer = make_shop().customers[6]
    told = http.get("/customers/7").json()
    assert (told["name"], told["email"], told["card"]) == (
        customer.name,
        customer.email,
        customer.card_number,
    )
    assert told["note"].replace(" ", "").find(customer.card_number) > 0
    assert http.get("/customers/7/notes").text == note(customer) + "\n"
    assert [one["id"] for one in http.get("/customers?limit=3").json()["customers"]] == [1, 2, 3]


ORDER = {"customer_id": 1, "product_id": 3, "quantity": 2}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/customers/100000", None, 404),
        ("GET", "/customers/100000/notes", None, 404),
        ("GET", "/nowhere", None, 404),
        ("DELETE", "/customers/1", None, 405),
        ("POST", "/orders", json.dumps(ORDER), 201),
        ("POST", "/orders", json.dumps(ORDER | {"product_id": 0}), 422),
        ("POST", "/orders", "nonsense", 422),
        ("POST", "/orders", "[]", 422),
        ("POST", "/orders", "", 411),
        ("POST", "/orders", " " * (MAX_BODY_BYTES + 1), 411),
    ],
)
def test_the_apis_answers(http: httpx.Client, method: str, path: str, body: str | None, status: int) -> None:
    assert http.request(method, path, content=body).status_code == status


def test_changes_at_the_api_are_seen_and_recorded(api: ShopApi, http: httpx.Client) -> None:
    before = len(api.calls)
    made = http.post("/orders", json=ORDER).json()
    assert http.get(f"/orders/{made['id']}").json()["status"] == "new"
    assert http.delete(f"/orders/{made['id']}").status_code == 200
    assert http.get(f"/orders/{made['id']}").status_code == 404
    assert [call.method for call in api.calls[before:]] == ["POST", "GET", "DELETE", "GET"]
    assert json.loads(api.calls[before].body) == ORDER


def ask(url: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OPENAI_")}
    return subprocess.run(
        [sys.executable, str(ASK_MODEL), *arguments],
        env=kept | {"OPENAI_BASE_URL": f"{url}/v1", "NO_PROXY": "127.0.0.1"} | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "environment", "output", "error"),
    [
        (["Hello"], {"OPENAI_API_KEY": MODEL_KEY}, "You said: Hello\n(1 tokens in, 6 out)\n", ""),
        (["a customer"], {"OPENAI_API_KEY": MODEL_KEY}, CUSTOMER, ""),
        (["--max-tokens", "2", "Hello"], {"OPENAI_API_KEY": MODEL_KEY}, "You \n(1 tokens in, 2 out)\n", ""),
        (["--model", "gpt-9", "Hello"], {"OPENAI_API_KEY": MODEL_KEY}, "", "openai.NotFoundError: there is"),
        (["Hello"], {"OPENAI_API_KEY": "another"}, "", "openai.AuthenticationError: this key"),
        (["Hello"], {}, "", "openai.OpenAIError: "),
    ],
)
def test_the_script_prints_what_the_model_says_or_the_sdks_own_error(
    arguments: list[str], environment: dict[str, str], output: str, error: str
) -> None:
    with ModelServer(MODEL_KEY) as model:
        done = ask(model.url, *arguments, **environment)
    assert done.stdout.startswith(output)
    assert done.stderr.startswith(error)
    assert (done.returncode, bool(done.stdout), bool(done.stderr)) == (
        (1, False, True) if error else (0, True, False)
    )


def test_a_machine_without_curl_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    assert has_curl()
    monkeypatch.setenv("PATH", "/nonexistent")
    assert not has_curl()
    assert not has_http2()


def test_a_curl_without_http2_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    curl = tmp_path / "curl"
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for features, has in {"Features: IPv6 SSL HTTP2": True, "Features: IPv6 SSL": False}.items():
        curl.write_text(f"#!/bin/sh\necho '{features}'\n")
        curl.chmod(0o755)
        assert has_http2() is has


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A demo on a machine without Node, in a place whose name has a blank."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(issuer_module, "MODULES", Path("/nonexistent"))
        with Stage(tmp_path_factory.mktemp("a place") / ".demo", has_sshd=False) as running:
            yield running


def test_the_steps_hold_with_the_stand_in_for_the_issuer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # a person's own proxy, which leads nowhere from here
    monkeypatch.chdir(stage.directory.parent)
    steps = http_steps_for(stage)
    out = io.StringIO()
    assert run_tour(steps, scene_of(stage), out), out.getvalue()
    assert "the demo's own stand-in" in out.getvalue()
    assert {"http", "http_har", "model", "budgets"} <= {step.name for step in steps}


def test_the_authority_for_tunnels_may_sign_for_the_api_alone(stage: Stage) -> None:
    certificate = x509.load_pem_x509_certificate((stage.directory / "pki" / f"{INSPECTION}.crt").read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName(API_HOST)]


@pytest.fixture
def alice(stage: Stage) -> Iterator[httpx.Client]:
    """She comes with a token, to the gateway."""
    with httpx.Client(
        base_url=f"https://localhost:{stage.ports.http}",
        headers={"authorization": f"Bearer {stage.http.token_file('alice').read_text().strip()}"},
        verify=ssl.create_default_context(cafile=stage.directory / "pki" / "ca.crt"),
        trust_env=False,
    ) as client:
        yield client


NOBODY = {"authorization": "none"}
LARGE = json.dumps(ORDER | {"comment": "x" * (2 << 20)})
SIGNS = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("method", "path", "headers", "body", "status", "words"),
    [
        ("GET", "/t/api/customers/1", NOBODY, "", 401, "a certificate or a token"),
        ("GET", "/t/api/customers/1", {"authorization": "Bearer nonsense"}, "", 401, "not a signed JWT"),
        ("GET", "/customers/1", {}, "", 404, "names no target"),
        ("GET", "/t/nowhere/", {}, "", 403, "has no access"),
        ("GET", "/t/admin+api/orders/1", {}, "", 403, "has no access"),
        ("GET", "/t/api/customers/1/export", {}, "", 403, "Exports are made at night."),
        ("DELETE", "/t/api/orders/1", {}, "", 403, "needs an approval"),
        ("GET", "/t/api/orders%2F1", {}, "", 400, "encoded slash"),
        ("GET", "/t/api//orders/1", {}, "", 400, "empty segment"),
        ("TRACE", "/t/api/orders/1", {}, "", 501, "TRACE is not passed on"),
        ("GET", "/t/api/orders/1", {"x-more": "x" * 70_000}, "", 431, "65536 bytes"),
        ("POST", "/t/api/orders", SIGNS, LARGE, 403, "small-orders looks into the body"),
        ("POST", "/t/api/orders", SIGNS | {"content-encoding": "gzip"}, "{}", 403, "compressed"),
        ("GET", "/t/api/orders/1", {"origin": "https://other.example"}, "", 200, "status"),
    ],
)
def test_what_the_page_about_http_says_of_answers(
    alice: httpx.Client, method: str, path: str, headers: dict[str, str], body: str, status: int, words: str
) -> None:
    answer = alice.request(method, path, headers=headers, content=body)
    assert answer.status_code == status
    assert words in answer.text
    kind = "application/json" if status == 200 else "application/problem+json"
    assert answer.headers["content-type"] == kind


def test_what_a_client_says_of_itself_does_not_reach_the_api(stage: Stage, alice: httpx.Client) -> None:
    token = alice.headers["authorization"].partition(" ")[2]
    said = {
        **{
            "x-forwarded-for": "1.2.3.4",
            "forwarded": "for=1.2.3.4",
            "x-original-url": "/",
            "range": "bytes=0-1",
        },
        **{"x-http-method-override": "DELETE", "proxyd-login": "shop", "x-api-key": token, "cookie": "a=b"},
    }
    fields = alice.get("/t/api/whoami", headers=said).json()["fields"]
    assert set(fields) & set(said) == {"cookie"}
    assert not any(token in value for value in stage.http.api_calls()[-1].headers.values())


def test_a_token_is_a_persons_own(stage: Stage) -> None:
    tokens: dict[str, Any] = {name: stage.http.token_file(name).read_text() for name in ("alice", "dora")}
    assert tokens["alice"] != tokens["dora"]
    answer = httpx.get(
        f"https://localhost:{stage.ports.http}/t/api/customers/1",
        headers={"authorization": f"Bearer {tokens['dora'].strip()}"},
        verify=ssl.create_default_context(cafile=stage.directory / "pki" / "ca.crt"),
        trust_env=False,
    )
    assert answer.json()["card"] == stage.shop.customers[0].card_number  # no mask holds for her
