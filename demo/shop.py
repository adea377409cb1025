"""The demo's data: a small shop, the same at every run.

Owns the rows and the SQL that makes them. Everything in it is invented: the addresses are of example
domains, the telephone numbers of the range kept for fiction, the social security numbers of a range that is
never issued, the cards carry a test prefix. `fill` needs a connection of a superuser; nothing else here
does any I/O.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import psycopg
from psycopg import sql

DATABASE = "shop"
CUSTOMERS = 240
PRODUCTS = 24
ORDERS = 500


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(","))


_FIRST_NAMES = _words(
    "Ada, Amir, Anna, Ben, Carla, Chen, Dara, Elif, Emil, Farah, Finn, Grace, Hugo, Ines, Ivan, Jade, Jonas, "
    "Kim, Lara, Leo, Maya, Mona, Nils, Nora, Omar, Petra, Quinn, Rosa, Sami, Tara, Uma, Wanda, Yara, Zoe"
)
_LAST_NAMES = _words(
    "Abel, Baker, Castro, Dietz, Evans, Fischer, Garcia, Haas, Ito, Jensen, Kaya, Lopez, Meyer, Novak, "
    "Olsen, Park, Quist, Rossi, Sato, Tanaka, Ueda, Vogel, Weber, Xu, Young, Zeller"
)
_DOMAINS = ("example.com", "example.net", "example.org")
_PRODUCTS = _words(
    "Anchor lamp, Brass compass, Canvas bag, Deck chair, Enamel mug, Felt hat, Garden twine, "
    "Harbour print, Iron kettle, Jute rug, Kitchen scale, Linen apron, Map of the coast, Notebook, Oak tray, "
    "Paper boat, Quilt, Rope ladder, Sea salt, Tin whistle, Umbrella, Wool scarf, Yarn basket, Zinc bucket"
)
_SERVICES = ("payments", "shipping", "newsletter", "accounting", "search")


@dataclass(frozen=True, slots=True)
class Customer:
    """One row of shop.customers; the fields are its columns, in order."""

    id: int
    name: str
    email: str
    phone: str
    ssn: str
    card_number: str
    id_number: str
    birth_date: date
    balance: str
    external_id: uuid.UUID
    is_active: bool
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Shop:
    """Every row, as tuples in the order of their table's columns; customers by name of their fields."""

    customers: tuple[Customer, ...]
    products: tuple[tuple[object, ...], ...]
    orders: tuple[tuple[object, ...], ...]
    order_items: tuple[tuple[object, ...], ...]
    api_keys: tuple[tuple[object, ...], ...]

    def private_values(self) -> frozenset[str]:
        """Everything that no analyst may see."""
        values = {
            value
            for customer in self.customers
            for value in (
                customer.email,
                customer.phone,
                customer.ssn,
                customer.card_number,
                customer.id_number,
                str(customer.birth_date),
            )
        }
        return frozenset(values | {str(row[2]) for row in self.api_keys})


SCHEMA = """
CREATE SCHEMA shop;
CREATE TABLE shop.customers (
    id integer PRIMARY KEY,
    name text NOT NULL,
    email text NOT NULL UNIQUE,
    phone text NOT NULL,
    ssn text NOT NULL,
    card_number text NOT NULL,
    id_number text NOT NULL,
    birth_date date NOT NULL,
    balance numeric(10, 2) NOT NULL DEFAULT 0,
    external_id uuid NOT NULL,
    is_active boolean NOT NULL DEFAULT true,
    created_at timestamptz NOT NULL
);
CREATE TABLE shop.products (
    id integer PRIMARY KEY,
    name text NOT NULL,
    price numeric(8, 2) NOT NULL CHECK (price > 0)
);
CREATE TABLE shop.orders (
    id integer PRIMARY KEY,
    customer_id integer NOT NULL REFERENCES shop.customers,
    status text NOT NULL CHECK (status IN ('new', 'paid', 'shipped', 'cancelled')),
    placed_at timestamptz NOT NULL
);
CREATE TABLE shop.order_items (
    order_id integer NOT NULL REFERENCES shop.orders,
    product_id integer NOT NULL REFERENCES shop.products,
    quantity integer NOT NULL CHECK (quantity > 0),
    PRIMARY KEY (order_id, product_id)
);
CREATE TABLE shop.api_keys (
    id integer PRIMARY KEY,
    service text NOT NULL,
    key text NOT NULL
);
CREATE VIEW shop.contacts AS
    SELECT id, name, email AS mail, phone AS telephone FROM shop.customers WHERE is_active;
"""

# What the gateway's own accounts may do on the target. The gateway narrows it further, by person.
GRANTS = """
GRANT USAGE ON SCHEMA shop TO gateway_reader, gateway_admin;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA shop TO gateway_reader, gateway_admin;
"""

ACCOUNTS = ("gateway_reader", "gateway_admin", "gateway_catalog")


def make_shop(seed: int = 1852) -> Shop:
    """The whole shop; the same seed gives the same rows."""
    dice = random.Random(seed)  # noqa: S311  (sample data, not a secret)
    customers = tuple(_customer(number, dice) for number in range(1, CUSTOMERS + 1))
    products = tuple(
        (number, _PRODUCTS[number - 1], f"{dice.randint(3, 180)}.{dice.choice(('00', '50', '90'))}")
        for number in range(1, PRODUCTS + 1)
    )
    opening = datetime(2024, 1, 2, 9, tzinfo=UTC)
    orders = tuple(
        (
            number,
            dice.randint(1, CUSTOMERS),
            dice.choice(("new", "paid", "paid", "shipped", "shipped", "shipped", "cancelled")),
            opening + timedelta(minutes=1117 * number + dice.randint(0, 600)),
        )
        for number in range(1, ORDERS + 1)
    )
    items = tuple(
        (order, product, dice.randint(1, 5))
        for order in range(1, ORDERS + 1)
        for product in sorted(dice.sample(range(1, PRODUCTS + 1), dice.randint(1, 4)))
    )
    keys = tuple(
        (number, service, f"demo-key-{dice.getrandbits(96):024x}")
        for number, service in enumerate(_SERVICES, start=1)
    )
    return Shop(customers, products, orders, items, keys)


def fill(connection: psycopg.Connection, shop: Shop, passwords: Mapping[str, str]) -> None:
    """Make accounts, tables and rows. `connection`: a superuser's, to the database that becomes the shop.

    passwords: one for each of ACCOUNTS.
    """
    with connection.cursor() as cursor:
        for account in ACCOUNTS:
            command = sql.SQL("CREATE ROLE {} LOGIN PASSWORD {}")
            cursor.execute(command.format(sql.Identifier(account), sql.Literal(passwords[account])))
        cursor.execute(SCHEMA)
        _copy(cursor, "customers", (_row(customer) for customer in shop.customers))
        _copy(cursor, "products", shop.products)
        _copy(cursor, "orders", shop.orders)
        _copy(cursor, "order_items", shop.order_items)
        _copy(cursor, "api_keys", shop.api_keys)
        cursor.execute(GRANTS)
        cursor.execute("ANALYZE")
    connection.commit()


def _customer(number: int, dice: random.Random) -> Customer:
    first = dice.choice(_FIRST_NAMES)
    last = dice.choice(_LAST_NAMES)
    birth = date(1945, 1, 1) + timedelta(days=dice.randint(0, 22_000))
    joined = datetime(2021, 3, 1, 8, tzinfo=UTC) + timedelta(minutes=dice.randint(0, 1_400_000))
    return Customer(
        id=number,
        name=f"{first} {last}",
        email=f"{first}.{last}{number}@{dice.choice(_DOMAINS)}".lower(),
        phone=f"+1 {dice.randint(201, 989)} 555 01{dice.randint(0, 99):02}",
        ssn=f"{dice.randint(900, 999)}-{dice.randint(10, 99)}-{dice.randint(1000, 9999)}",
        card_number=_card(dice),
        id_number=f"ID-{dice.randint(100_000, 999_999)}-{dice.choice('ABCDEFGHK')}",
        birth_date=birth,
        balance=f"{dice.randint(-5_000, 250_000) / 100:.2f}",
        external_id=uuid.UUID(int=dice.getrandbits(128), version=4),
        is_active=dice.random() < 0.9,
        created_at=joined,
    )


def _card(dice: random.Random) -> str:
    """Sixteen digits that pass the check of ISO/IEC 7812-1 (Luhn), as real ones do."""
    digits = [4, 0, 0, 0, 0, 0, *(dice.randint(0, 9) for _ in range(9))]
    doubled = [digit if place % 2 else sum(divmod(2 * digit, 10)) for place, digit in enumerate(digits)]
    digits.append(-sum(doubled) % 10)
    return "".join(map(str, digits))


def _row(customer: Customer) -> Sequence[object]:
    return [getattr(customer, column) for column in Customer.__slots__]


def _copy(cursor: psycopg.Cursor, table: str, rows: Iterable[Sequence[object]]) -> None:
    command = sql.SQL("COPY shop.{} FROM STDIN").format(sql.Identifier(table))
    with cursor.copy(command) as copy:
        for row in rows:
            copy.write_row(row)
