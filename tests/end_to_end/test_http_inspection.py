"""Clients that know nothing but HTTPS_PROXY: what is in their tunnels is judged, and they believe the certificate."""

from __future__ import annotations

import io
import json
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import h2.events
import httpx
import pycurl
import pytest
import trio
from cryptography import x509

from demo.issuer import Client, LocalIssuer
from tests.end_to_end.http2_socket import InnerHttp2, play
from tests.end_to_end.http_gateway import EVERYTHING_BY_HTTP, HttpGateway
from tests.end_to_end.http_raw import Http2Client
from tests.end_to_end.http_servers import Hypercorn
from tests.end_to_end.running import HOST
from tests.pki import SERVER, Authority

TUNNELLED = "api.example.com"
CURLPROXY_HTTPS2 = 3  # pycurl has no name for it yet


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpGateway]:
    directory = tmp_path_factory.mktemp("inspection")
    servers = Authority.root("Servers")
    files = servers.issue("issuer", dns=["localhost"], purpose=SERVER).write(directory)
    bob = Client(
        "bob", "bobs-secret", {"preferred_username": "bob", "email": "bob@example.com", "groups": ["data"]}
    )
    ca = servers.write_bundle(directory / "servers.crt")
    issuer = LocalIssuer(directory / "issuer", files.certificate, files.key, ca, (bob,))
    issuer.start()
    app = Hypercorn(directory / "app", servers)
    logins = [{"name": "default", "none": True}, {"name": "second", "none": True}]
    targets = {
        "app": {"url": app.url, "hosts": [TUNNELLED]},
        "many": {"url": app.url, "hosts": ["many.example.com"], "logins": logins},
    }
    policy = EVERYTHING_BY_HTTP.replace("logins: [default]", "logins: [default, second]")
    try:
        with (
            app,
            HttpGateway(directory / "gateway", targets, policy=policy, ca=servers, issuer=issuer) as running,
        ):
            yield running
    finally:
        issuer.stop()


def curl(
    gateway: HttpGateway, url: str, *options: str, proxy: str | None = None
) -> subprocess.CompletedProcess[bytes]:
    """curl as a tool runs it that reads its proxy from the environment; the token is the proxy's password."""
    proxy = proxy or f"https://token:{gateway.token('bob')}@localhost:{gateway.port}"
    command = ["curl", "--silent", "--show-error", "--max-time", "60", "--proxy-cacert", str(gateway.ca)]
    environment = {"PATH": "/usr/bin:/bin", "HTTPS_PROXY": proxy, "http_proxy": proxy}
    return subprocess.run(
        [*command, *options, url], capture_output=True, check=False, timeout=70, env=environment
    )


def trusting(gateway: HttpGateway) -> tuple[str, str]:
    return "--cacert", str(gateway.inspection_ca)


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_what_is_in_a_tunnel_goes_to_the_target(gateway: HttpGateway, version: str) -> None:
    url = f"https://{TUNNELLED}/echo?x=1"
    done = curl(gateway, url, *trusting(gateway), f"--http{version}", "--write-out", "\n%{http_version}")
    assert done.returncode == 0, done.stderr
    told, spoken = done.stdout.decode().rsplit("\n", 1)
    assert spoken == version
    assert json.loads(told)["path"] == "/echo"
    assert gateway.token("bob") not in told


def test_it_is_judged(gateway: HttpGateway) -> None:
    done = curl(
        gateway, f"https://{TUNNELLED}/admin/users", *trusting(gateway), "--write-out", "\n%{http_code}"
    )
    problem, status = done.stdout.decode().rsplit("\n", 1)
    assert status == "403"
    assert json.loads(problem)["detail"] == "The admin API is not open through the gateway."


def test_a_proxy_request_in_clear_text_form(gateway: HttpGateway) -> None:
    """`GET http://host/`: to the gateway under TLS all the same."""
    done = curl(gateway, f"http://{TUNNELLED}/echo", *trusting(gateway))
    assert json.loads(done.stdout)["path"] == "/echo", done.stderr


def test_a_client_that_does_not_trust_the_gateway_says_so(gateway: HttpGateway) -> None:
    proxy = httpx.Proxy(gateway.url, ssl_context=gateway.context(None), auth=("token", gateway.token("bob")))
    inside = ssl.create_default_context(cafile=str(gateway.ca))
    with (
        httpx.Client(proxy=proxy, verify=inside, trust_env=False, timeout=60) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        client.get(f"https://{TUNNELLED}/echo")
    with gateway.client(token=gateway.token("bob")) as client:
        assert client.get("/t/app/echo").status_code == 200


REFUSED = [
    ("https://elsewhere.example/", None, "403"),
    (f"https://{TUNNELLED}:22/", None, "403"),
    ("https://localhost:5432/", None, "403"),
    (f"https://{TUNNELLED}/", "https://localhost:{port}", "407"),
    (f"https://{TUNNELLED}/", "https://token:not-a-token@localhost:{port}", "407"),
]


@pytest.mark.parametrize(("url", "proxy", "status"), REFUSED)
def test_tunnels_that_are_refused(gateway: HttpGateway, url: str, proxy: str | None, status: str) -> None:
    where = None if proxy is None else proxy.format(port=gateway.port)
    done = curl(gateway, url, *trusting(gateway), "--write-out", "%{http_connect}", proxy=where)
    assert done.returncode != 0
    assert done.stdout.decode() == status


def leaf_in_tunnel(gateway: HttpGateway, host: str, port: int, name: str | None = None) -> x509.Certificate:
    """Ask for a tunnel by hand; the certificate that is shown to a client that asks TLS for `name`."""

    async def look() -> bytes:
        authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        context = ssl.create_default_context(cafile=str(gateway.inspection_ca))
        async with await trio.open_tcp_stream(HOST, gateway.port) as stream:
            outer = trio.SSLStream(stream, gateway.context(), server_hostname="localhost")
            await outer.send_all(f"CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n\r\n".encode())
            told = await outer.receive_some()
            assert told.startswith(b"HTTP/1.1 200 "), told
            inner = trio.SSLStream(outer, context, server_hostname=name or host)
            await inner.do_handshake()
            certificate: bytes = inner.getpeercert(binary_form=True)
            return certificate

    return x509.load_der_x509_certificate(trio.run(look))


def test_the_certificate_is_for_the_host_of_the_tunnel(gateway: HttpGateway) -> None:
    leaf = leaf_in_tunnel(gateway, TUNNELLED, 443)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [TUNNELLED]
    assert leaf.issuer == gateway.inspection.certificate.subject
    assert leaf_in_tunnel(gateway, TUNNELLED, 443) == leaf
    with pytest.raises(trio.BrokenResourceError):
        leaf_in_tunnel(gateway, TUNNELLED, 443, "elsewhere.example")


def test_a_tunnel_leads_to_its_own_host_alone(gateway: HttpGateway) -> None:
    """Inside, the Host field names another target's host: that is another request than was let in."""
    options = (
        *trusting(gateway),
        "--header",
        "Host: localhost",
        "--write-out",
        "%{http_code}",
        "--output",
        "/dev/null",
    )
    assert curl(gateway, f"https://{TUNNELLED}/echo", *options).stdout == b"421"


def test_which_of_several_logins_is_said_inside(gateway: HttpGateway) -> None:
    url, asked = "https://many.example.com/echo", ("--write-out", "%{http_code}", "--output", "/dev/null")
    assert curl(gateway, url, *trusting(gateway), *asked).stdout == b"403"
    for login, status in (("second", b"200"), ("third", b"403")):
        done = curl(gateway, url, *trusting(gateway), *asked, "--header", f"Proxyd-Login: {login}")
        assert done.stdout == status, login


def test_httpx(gateway: HttpGateway) -> None:
    proxy = httpx.Proxy(gateway.url, ssl_context=gateway.context(None), auth=("token", gateway.token("bob")))
    inside = ssl.create_default_context(cafile=str(gateway.inspection_ca))
    with httpx.Client(proxy=proxy, verify=inside, trust_env=False, timeout=60) as client:
        for _ in range(3):
            assert client.get(f"https://{TUNNELLED}/echo").json()["path"] == "/echo"


def test_aiohttp(gateway: HttpGateway, tmp_path: Path) -> None:
    """One context for both: that of the gateway's own TLS, and that of the tunnel."""
    import asyncio

    both = gateway.context(None, gateway.inspection_ca)

    async def ask() -> str:
        login = {"Proxy-Authorization": f"Bearer {gateway.token('bob')}"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(
                f"https://{TUNNELLED}/echo", proxy=gateway.url, proxy_headers=login, ssl=both
            ) as answer,
        ):
            return str((await answer.json())["path"])

    assert asyncio.run(ask()) == "/echo"


# --- over HTTP/2 ------------------------------------------------------------------------------------------------


def asked(gateway: HttpGateway, path: str, name: str = TUNNELLED, **more: object) -> dict[str, object]:
    """What Node's scene of tunnels does in one of them."""
    return {"authority": f"{name}:443", "name": name, "path": path, "token": gateway.token("bob"), **more}


def test_many_tunnels_on_one_connection(gateway: HttpGateway) -> None:
    wanted = [asked(gateway, f"/echo?n={number}") for number in range(20)]
    wanted += [asked(gateway, "/admin/users"), asked(gateway, "/echo", "many.example.com")]
    told = play(gateway, "tunnels", person=None, ca=str(gateway.inspection_ca), asked=wanted)
    answers = [json.loads(one["body"]) for one in told]
    assert {one["status"] for one in told} == {200}
    assert [one["query"] for one in answers[:20]] == [f"n={number}" for number in range(20)]
    assert answers[20]["detail"] == "The admin API is not open through the gateway."
    assert "several logins" in answers[21]["detail"]
    opened = gateway.logged("tunnel opened")[-22:]
    assert len({line["client"] for line in opened}) == 1


def test_what_is_refused_costs_its_stream_alone(gateway: HttpGateway) -> None:
    wanted = [
        asked(gateway, "/", token=""),
        asked(gateway, "/", token="not-a-token"),
        asked(gateway, "/", authority=f"{TUNNELLED}:22"),
        asked(gateway, "/", authority="elsewhere.example:443"),
        asked(gateway, "/", authority=TUNNELLED),
        asked(gateway, "/echo"),
    ]
    told = play(gateway, "tunnels", person=None, ca=str(gateway.inspection_ca), asked=wanted)
    assert [one["status"] for one in told] == [407, 407, 403, 403, 400, 200]
    assert "token" in json.loads(told[0]["text"])["hint"].lower()


def test_curl_with_a_proxy_of_http2(gateway: HttpGateway) -> None:
    """As `curl --proxy-http2` does, which Debian's is too old for: one connection to the proxy, HTTP/2 inside, too."""
    handle = pycurl.Curl()
    answers = []
    for path in ("/echo?x=1", "/admin/users"):
        got = io.BytesIO()
        for option, value in {
            pycurl.URL: f"https://{TUNNELLED}{path}",
            pycurl.PROXY: gateway.url,
            pycurl.PROXYTYPE: CURLPROXY_HTTPS2,
            pycurl.PROXYUSERPWD: f"any:{gateway.token('bob')}",
            pycurl.PROXY_CAINFO: str(gateway.ca),
            pycurl.CAINFO: str(gateway.inspection_ca),
            pycurl.TIMEOUT: 20,
            pycurl.WRITEDATA: got,
        }.items():
            handle.setopt(option, value)
        handle.perform()
        version = handle.getinfo(pycurl.INFO_HTTP_VERSION)
        answers.append((handle.getinfo(pycurl.RESPONSE_CODE), version, json.loads(got.getvalue())))
    handle.close()
    (ok, spoken, told), (denied, _, problem) = answers
    assert (ok, spoken, told["path"]) == (200, pycurl.CURL_HTTP_VERSION_2_0, "/echo")
    assert (denied, problem["rule"]) == (403, "no-admin")


def test_a_tunnel_in_a_tunnel_is_none(gateway: HttpGateway) -> None:
    """Inside, HTTP/2 by hand: a CONNECT there gets 405, and the tunnel goes on."""
    with Http2Client(gateway, person=None) as outer:
        stream = outer.h2.get_next_available_stream_id()
        head = [(":method", "CONNECT"), (":authority", f"{TUNNELLED}:443")]
        token = ("proxy-authorization", f"Bearer {gateway.token('bob')}")
        outer.h2.send_headers(stream, [*head, token])
        outer.flush()
        outer.until(lambda event: isinstance(event, h2.events.ResponseReceived))
        with InnerHttp2(outer, stream, TUNNELLED, gateway.inspection_ca) as inner:
            assert inner.ask(head)[0] == 405
            path = [(":method", "GET"), (":scheme", "https"), (":authority", TUNNELLED), (":path", "/echo")]
            assert inner.ask(path, ends=True)[0] == 200
            assert inner.ask([*path[:3], (":path", "/admin/x")], ends=True)[0] == 403


def test_what_is_no_tls_ends_its_tunnel_alone(gateway: HttpGateway) -> None:
    with Http2Client(gateway, person=None) as client:
        token = ("proxy-authorization", f"Bearer {gateway.token('bob')}")
        ended = []
        for data in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""):
            stream = client.h2.get_next_available_stream_id()
            head = [(":method", "CONNECT"), (":authority", f"{TUNNELLED}:443"), token]
            client.h2.send_headers(stream, head)
            if data:
                client.h2.send_data(stream, data)
            else:
                client.h2.end_stream(stream)
            client.flush()
            events = client.until(
                lambda event: isinstance(event, h2.events.StreamEnded | h2.events.StreamReset)
            )
            ended.append(type(events[-1]).__name__)
        assert len(ended) == 3
        own = ("authorization", f"Bearer {gateway.token('bob')}")
        assert client.answer_on(client.request("/t/app/echo", own))[0] == 200
