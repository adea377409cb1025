"""What nginx, and Node behind it, see of what is written anew: the same path, query, fields and body that were judged.

nginx decodes and normalises paths by itself (`$uri`), in code that shares nothing with ours.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from itertools import product

import pytest

from protocols.errors import ProtocolError
from protocols.http.http1 import (
    Http1Limits,
    RequestReader,
    ResponseReader,
    chunk,
    last_chunk,
    request_head,
)
from protocols.http.messages import Data, MessageEnded, RequestHead, ResponseHead
from protocols.http.paths import read_path
from protocols.http.targets import destination

NODE_SERVER = """
const http = require('http');
http.createServer((request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('end', () => response.end(JSON.stringify({
    method: request.method, url: request.url, headers: request.rawHeaders,
    body: Buffer.concat(parts).toString('latin1'), trailers: request.rawTrailers})));
}).listen(0, '127.0.0.1', function () { console.log(this.address().port); });
"""
NGINX_CONFIG = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/error.log;
events {{}}
http {{
  access_log off;
  keepalive_requests 100000;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{own_port};
    merge_slashes off;
    location / {{
      proxy_pass http://127.0.0.1:{port}$request_uri;
      proxy_http_version 1.1;
      proxy_set_header X-Seen-Uri "[$uri]";
      proxy_set_header X-Seen-Host $http_host;
    }}
  }}
}}
"""


@pytest.fixture(scope="module")
def node() -> Iterator[int]:
    """The port of a server that answers with what it saw."""
    program = shutil.which("node")
    assert program is not None, "node is needed: apt-get install nodejs"
    with subprocess.Popen([program, "-e", NODE_SERVER], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module")
def nginx(node: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of an nginx before that server, which adds what it takes the path for."""
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    folder = tmp_path_factory.mktemp("nginx")
    # Listening already when it is handed over (as nginx's own upgrades do): nothing has to be waited for.
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        port = listening.getsockname()[1]
        config = folder / "nginx.conf"
        config.write_text(NGINX_CONFIG.format(folder=folder, port=node, own_port=port))
        process = subprocess.Popen(
            [program, "-p", str(folder), "-c", str(config), "-e", str(folder / "error.log")],
            env={"NGINX": f"{listening.fileno()};"},
            pass_fds=[listening.fileno()],
        )
        try:
            yield port
        finally:
            process.terminate()  # its master ends the worker too
            process.wait(20)


def passed_on(data: bytes) -> tuple[RequestHead, str, str, bytes, bytes]:
    """Head, canonical target, decoded path, body, and the request as the gateway sends it."""
    reader = RequestReader(Http1Limits(), "http")
    reader.feed(data)
    head = reader.next_event()
    assert isinstance(head, RequestHead)
    body = b""
    while isinstance(event := reader.next_event(), Data):
        body += event.data
    assert isinstance(event, MessageEnded)
    place = destination(head, keep_encoded_slashes=True)
    target = place.path + (f"?{place.query}" if place.query else "")
    sent = request_head(head, target, "t.example")
    sent += chunk(body) + last_chunk(event.trailers) if head.body_bytes is None else body
    return head, target, place.decoded_path, body, sent


def received(client: socket.socket) -> bytes:
    data = client.recv(65536)
    assert data, "the server ended the connection"
    return data


def asked(port: int, sent: bytes) -> dict[str, object]:
    """What the server says that it saw. Exactly one answer comes."""
    reader = ResponseReader(Http1Limits())
    reader.expect("GET")
    answer = b""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=20)) as client:
        client.sendall(sent)
        while not reader.has_ended:
            event = reader.next_event()
            if event is None:
                reader.feed(received(client))
            elif isinstance(event, ResponseHead):
                assert event.status == 200, event
            elif isinstance(event, Data):
                answer += event.data
    assert reader.buffered == 0
    seen: dict[str, object] = json.loads(answer)
    return seen


H = b"Host: gateway.example\r\n"
REQUESTS = {
    "the least": b"GET / HTTP/1.1\r\n" + H + b"\r\n",
    "unreserved characters encoded": b"GET /%61dmin/%7Ex?a=%61 HTTP/1.1\r\n" + H + b"\r\n",
    "characters that clients leave raw": b'GET /a|b"c<d>{e}[f]^g`h HTTP/1.1\r\n' + H + b"\r\n",
    "Unicode": b"GET /caf%c3%a9/%e4%b8%ad?q=%c3%a9 HTTP/1.1\r\n" + H + b"\r\n",
    "parameters": b"GET /a;x=1/b;y?p=1;q=2 HTTP/1.1\r\n" + H + b"\r\n",
    "a question mark and number sign in the path": b"GET /a%3fb%23c HTTP/1.1\r\n" + H + b"\r\n",
    "percent, plus, colon and at": b"GET /100%25/a+b:c@d HTTP/1.1\r\n" + H + b"\r\n",
    "dots that are no dot segments": b"GET /.a/..b/c../.well-known HTTP/1.1\r\n" + H + b"\r\n",
    "an absolute target": b"GET http://gateway.example/x?y=http://z/ HTTP/1.1\r\n" + H + b"\r\n",
    "blanks around values": b"GET / HTTP/1.1\r\n" + H + b"X-A:   b c \t\r\nX-B:\r\nX-C: a\tb\r\n\r\n",
    "a body by length": b"POST /x HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello",
    "a body by length that looks like a request": b"POST / HTTP/1.1\r\n" + H
    + b"Content-Length: 18\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "a body in chunks": b"POST /x HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n"
    b"5;a=b\r\nhello\r\n1\r\n!\r\n0\r\n\r\n",
    "a body of nothing in chunks": b"POST /x HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a body with zeros and line ends": b"PUT /x HTTP/1.1\r\n" + H + b"Content-Length: 9\r\n\r\n\0\r\n\r\n0\r\n\r",
    "fields of one hop": b"GET / HTTP/1.1\r\n" + H + b"Connection: x-hop\r\nX-Hop: 1\r\nX-Kept: 2\r\n\r\n",
    "an underscore": b"GET / HTTP/1.1\r\n" + H + b"X_Env: 1\r\nX-Env: 2\r\n\r\n",
    "HTTP/1.0": b"GET /x HTTP/1.0\r\n\r\n",
}  # fmt: skip


@pytest.mark.parametrize("data", REQUESTS.values(), ids=REQUESTS.keys())
def test_nginx_and_node_see_what_was_judged(node: int, nginx: int, data: bytes) -> None:
    head, target, decoded, body, sent = passed_on(data)
    for port in (node, nginx):
        seen = asked(port, sent)
        assert (seen["method"], seen["url"]) == (head.method, target)
        assert seen["body"] == body.decode("latin-1")
        names = seen["headers"]
        assert isinstance(names, list)
        fields = [(name.lower(), value) for name, value in zip(names[::2], names[1::2], strict=True)]
        assert {field for field in fields if field[0].startswith("x-") and "seen" not in field[0]} == {
            field for field in head.headers if field[0].startswith("x-")
        }
        assert ("x-hop", "1") not in fields
        if port == nginx:
            uri = dict(fields)["x-seen-uri"]
            assert uri.encode("latin-1") == b"[%b]" % decoded.encode()
            assert dict(fields)["x-seen-host"] == "t.example"


def test_a_connection_serves_several(nginx: int) -> None:
    """Sent one behind the other on one connection, each is answered: nothing is left of one for the next."""
    sent = [passed_on(data)[-1] for data in REQUESTS.values()]
    with closing(socket.create_connection(("127.0.0.1", nginx), timeout=20)) as client:
        reader = ResponseReader(Http1Limits())
        for each in sent:
            reader.expect("GET")
            client.sendall(each)
            while not reader.has_ended:
                event = reader.next_event()
                if event is None:
                    reader.feed(received(client))
                elif isinstance(event, ResponseHead):
                    assert (event.status, event.keep_alive) == (200, True)


PIECES = (
    "a",
    ".",
    "..",
    "%2e",
    "/",
    "%2f",
    ";x",
    "%3b",
    "%3f",
    "%23",
    "%25",
    "%20",
    "+",
    "~",
    "%c3%a9",
    "%5B",
    "[",
)


def test_nginx_takes_every_path_that_is_let_through_as_we_do(nginx: int) -> None:
    """All paths of up to three pieces: what is not refused is in nginx what it is for the rules."""
    counts = {"refused": 0, "sent": 0}
    with closing(socket.create_connection(("127.0.0.1", nginx), timeout=20)) as client:
        reader = ResponseReader(Http1Limits())
        for pieces in product(("", *PIECES), repeat=3):
            raw = "/" + "".join(pieces)
            try:
                decoded = read_path(raw, keep_encoded_slashes=False).decoded
            except ProtocolError:
                counts["refused"] += 1
                continue
            counts["sent"] += 1
            if counts["sent"] % 3:  # a third of them tells enough
                continue
            answer = b""
            reader.expect("GET")
            client.sendall(passed_on(b"GET " + raw.encode() + b" HTTP/1.1\r\n" + H + b"\r\n")[-1])
            while not reader.has_ended:
                event = reader.next_event()
                if event is None:
                    reader.feed(received(client))
                elif isinstance(event, Data):
                    answer += event.data
            fields = json.loads(answer)["headers"]
            uri = fields[[name.lower() for name in fields].index("x-seen-uri") + 1]
            assert uri.encode("latin-1") == b"[%b]" % decoded.encode(), raw
    assert min(counts.values()) > 500
