"""The shop's HTTP API, as a stand-in: a small server on loopback over the rows of `demo.shop`.

Owns the server (a thread) and what it serves. It asks for its key, so that who gets an answer had the gateway's
credential put in; `/whoami` says whose key it was and which header fields came with it. `calls` has every request that
reached it: what is not there was never sent. Changes last as long as the server.

    GET /whoami    GET /customers?limit=N    GET /customers/ID    GET /customers/ID/notes    GET /orders/ID
    POST /orders {"customer_id": 1, "product_id": 3, "quantity": 2}    DELETE /orders/ID
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs

from demo.shop import Customer, Shop

HOST = "127.0.0.1"
ACCOUNT = "gateway"  # what the API calls the holder of its key
MAX_BODY_BYTES = 64 * 1024
_PLACE = re.compile(r"^/(whoami|customers|orders)(?:/([0-9]{1,9}))?(/notes)?$")


@dataclass(frozen=True, slots=True)
class Call:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class ShopApi(ThreadingHTTPServer):
    """Starts with `start` or `with`. `url` has no path."""

    daemon_threads = True

    def __init__(self, shop: Shop, key: str, port: int = 0) -> None:
        super().__init__((HOST, port), _Handler)
        self.key = key
        self.calls: list[Call] = []
        self.customers = {customer.id: customer for customer in shop.customers}
        self.products = {row[0]: row[1] for row in shop.products}
        self.orders: dict[int, dict[str, Any]] = {
            int(str(row[0])): {"id": row[0], "customer_id": row[1], "status": row[2]} for row in shop.orders
        }
        self.lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True
        )

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.server_port}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """May be called whether it was started or not."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
        self.server_close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: ShopApi

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: it is a stage prop."""

    def do_GET(self) -> None:
        self._serve(b"")

    def do_DELETE(self) -> None:
        self._serve(b"")

    def do_POST(self) -> None:
        size = int(self.headers.get("content-length") or 0)
        if not 0 < size <= MAX_BODY_BYTES:
            self.close_connection = True
            self._send(411, {"error": "a body with a length is needed"})
            return
        self._serve(self.rfile.read(size))

    def _serve(self, body: bytes) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.calls.append(Call(self.command, self.path, headers, body))
        if headers.get("authorization") != f"Bearer {self.server.key}":
            self._send(401, {"error": "this is not the key of this API"})
            return
        path, _, query = self.path.partition("?")
        found = _PLACE.match(path)
        if found is None:
            self._send(404, {"error": f"there is nothing at {path}"})
            return
        kind, number, notes = found[1], int(found[2]) if found[2] else None, bool(found[3])
        match self.command, kind:
            case "GET", "whoami":
                self._send(200, {"account": ACCOUNT, "fields": sorted(headers)})
            case "GET", "customers":
                self._customers(number, query, is_notes=notes)
            case "GET", "orders":
                self._one(self.server.orders.get(number or 0))
            case "POST", "orders":
                self._order(body)
            case "DELETE", "orders":
                with self.server.lock:
                    self._one(self.server.orders.pop(number or 0, None))
            case _:
                self._send(405, {"error": f"{self.command} is not known here"})

    def _customers(self, number: int | None, query: str, *, is_notes: bool) -> None:
        if number is None:
            limit = int(parse_qs(query).get("limit", ["10"])[0])
            listed = list(self.server.customers.values())[: max(0, limit)]
            self._send(200, {"customers": [record(customer) for customer in listed]})
            return
        customer = self.server.customers.get(number)
        if customer is None or not is_notes:
            self._one(None if customer is None else record(customer))
        else:
            self._send_text(200, "text/plain; charset=utf-8", note(customer) + "\n")

    def _order(self, body: bytes) -> None:
        try:
            asked = json.loads(body)
            product = self.server.products[asked["product_id"]]
            customer = self.server.customers[asked["customer_id"]]
            quantity = int(asked["quantity"])
        except (KeyError, TypeError, ValueError):
            self._send(422, {"error": "an order has a customer_id, a product_id and a quantity"})
            return
        with self.server.lock:
            number = max(self.server.orders) + 1
            order = {"id": number, "customer_id": customer.id, "status": "new"}
            self.server.orders[number] = order
        self._send(201, {**order, "product": product, "quantity": quantity})

    def _one(self, document: dict[str, Any] | None) -> None:
        if document is None:
            self._send(404, {"error": "there is no such thing"})
        else:
            self._send(200, document)

    def _send(self, status: int, document: dict[str, Any]) -> None:
        self._send_text(status, "application/json", json.dumps(document, indent=2) + "\n")

    def _send_text(self, status: int, content_type: str, text: str) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", content_type)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def record(customer: Customer) -> dict[str, Any]:
    """A customer as the API tells of them."""
    return {
        "id": customer.id,
        "name": customer.name,
        "email": customer.email,
        "card": customer.card_number,
        "note": note(customer),
    }


def note(customer: Customer) -> str:
    """What somebody typed where it does not belong."""
    card = " ".join(customer.card_number[start : start + 4] for start in range(0, 16, 4))
    return f"Rang about the delivery. Wants to pay with {card} from now on."
