"""A stand-in for a language model: a small server on loopback that speaks the wire shapes of OpenAI and Anthropic.

Owns the server: a thread that answers, deterministically (see `demo.model_replies`), whole or streamed. It asks for its
key, so that who gets an answer had the gateway's credential put in. `calls` has every request that reached it: what is
not there was never sent.

    with ModelServer(key="sk-demo") as model:
        openai.OpenAI(base_url=f"{model.url}/v1", api_key="sk-demo")
        anthropic.Anthropic(base_url=model.url, api_key="sk-demo")
"""

from __future__ import annotations

import argparse
import json
import re
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import chain
from types import TracebackType
from typing import Any, Self

from demo import model_anthropic, model_openai

HOST = "127.0.0.1"
MODELS = {
    "openai": ("gpt-demo", "gpt-demo-mini", "gpt-demo-large"),
    "anthropic": ("claude-demo", "claude-demo-large"),
}
MAX_BODY_BYTES = 16 << 20
Document = dict[str, Any]
_DEPLOYMENT = re.compile(r"^/openai/deployments/[^/]+/")  # Azure's paths


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `body`: parsed, None for one without a body."""

    method: str
    path: str
    headers: dict[str, str]
    body: Any


class ModelServer(ThreadingHTTPServer):
    """Starts with `with`. `url` has no path."""

    daemon_threads = True

    def __init__(self, key: str = "sk-demo", port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.key = key
        self.calls: list[Call] = []
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()


class _Refused(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ModelServer

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: it is a stage prop."""

    def do_GET(self) -> None:
        self._serve(None)

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        if not 0 < size <= MAX_BODY_BYTES:
            self.close_connection = True
            self._send(400, self._shape().error(400, "a body with a length is needed"))
            return
        raw = self.rfile.read(size)
        try:
            self._serve(json.loads(raw))
        except ValueError:
            self._send(400, self._shape().error(400, "the body is not JSON"))

    def _shape(self) -> Any:
        return model_anthropic if "anthropic-version" in self.headers else model_openai

    def _serve(self, body: Any) -> None:
        path = _DEPLOYMENT.sub("/v1/", self.path.partition("?")[0])
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.calls.append(Call(self.command, path, headers, body))
        shape = self._shape()
        try:
            self._check(headers, body)
            answer = self._answer(path, body)
        except _Refused as refused:
            self._send(refused.status, shape.error(refused.status, str(refused)))
        except (KeyError, TypeError, IndexError, AttributeError) as fault:
            self._send(400, shape.error(400, f"the request is not understood: {fault!r}"))
        else:
            if isinstance(answer, dict):
                self._send(200, answer)
            else:
                self._stream(answer)

    def _check(self, headers: dict[str, str], body: Any) -> None:
        shown = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        if shown != self.server.key:
            raise _Refused(401, "this key is not known here")
        if isinstance(body, dict) and body.get("model") not in (*MODELS["openai"], *MODELS["anthropic"]):
            raise _Refused(404, f"there is no model {body.get('model')!r}")
        if isinstance(body, dict) and body.get("user") == "fail":
            raise _Refused(500, "the model has fallen over, as it was asked to")

    def _answer(self, path: str, body: Any) -> Document | Iterator[bytes]:
        is_anthropic = self._shape() is model_anthropic
        if self.command == "GET" and path == "/v1/models":
            return self._shape().models(MODELS["anthropic" if is_anthropic else "openai"])  # type: ignore[no-any-return]
        streamed = _STREAMED.get(path) if self.command == "POST" and body.get("stream") else None
        if streamed is not None:
            events = _events(streamed(body))
            return chain([next(events)], events)  # a request that is not understood is known by the first
        whole = _WHOLE.get(path) if self.command == "POST" else None
        if whole is None:
            raise _Refused(404, f"there is nothing at {path}")
        return whole(body)

    def _send(self, status: int, document: Document) -> None:
        data = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def _stream(self, events: Iterable[bytes]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        try:
            for event in events:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.close_connection = True  # the client has gone


def _events(documents: Iterable[str | Document]) -> Iterator[bytes]:
    for document in documents:
        if isinstance(document, str):
            yield b"data: " + document.encode() + b"\n\n"
        else:
            yield f"event: {document['type']}\ndata: {json.dumps(document)}\n\n".encode()


_WHOLE: dict[str, Callable[[Document], Document]] = {
    "/v1/chat/completions": model_openai.chat,
    "/v1/responses": model_openai.response,
    "/v1/completions": model_openai.completion,
    "/v1/embeddings": model_openai.embeddings,
    "/v1/messages": model_anthropic.message,
    "/v1/messages/count_tokens": model_anthropic.counted,
}
_STREAMED: dict[str, Callable[[Document], Iterator[str] | Iterator[Document]]] = {
    "/v1/chat/completions": model_openai.chat_events,
    "/v1/responses": model_openai.response_events,
    "/v1/messages": model_anthropic.message_events,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="A stand-in for a language model, on loopback.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--key", default="sk-demo")
    options = parser.parse_args()
    with ModelServer(options.key, options.port) as model:
        print(f"listening on {model.url}", flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})


if __name__ == "__main__":
    main()
