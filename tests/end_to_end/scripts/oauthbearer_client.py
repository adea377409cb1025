"""A client of PostgreSQL 18's library that authenticates by OAUTHBEARER: oauthbearer_client.py DSN TOKEN_FILE SQL

libpq asks its application for the token by a hook (PQsetAuthDataHook), which is set here through ctypes. Prints JSON:
what the hook was told, and the rows or the error.
"""

from __future__ import annotations

import ctypes
import json
import sys
from pathlib import Path

import psycopg
from psycopg import pq

BEARER_TOKEN = 1  # PQAUTHDATA_OAUTH_BEARER_TOKEN


class Request(ctypes.Structure):
    """PGoauthBearerRequest of libpq-fe.h."""

    _fields_ = (
        ("openid_configuration", ctypes.c_char_p),
        ("scope", ctypes.c_char_p),
        ("async_", ctypes.c_void_p),
        ("cleanup", ctypes.c_void_p),
        ("token", ctypes.c_void_p),
        ("user", ctypes.c_void_p),
    )


Hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(Request))


def main(dsn: str, token_file: str, sql: str) -> None:
    token = ctypes.create_string_buffer(Path(token_file).read_bytes().strip())
    told: list[dict[str, str]] = []

    def answer(kind: int, connection: int, request: ctypes._Pointer[Request]) -> int:
        if kind != BEARER_TOKEN:
            return 0
        asked = request.contents
        told.append(
            {"configuration": asked.openid_configuration.decode(), "scope": (asked.scope or b"").decode()}
        )
        asked.token = ctypes.addressof(token)
        return 1

    hook = Hook(answer)
    (library,) = Path(psycopg.__file__).parent.parent.glob("psycopg_binary.libs/libpq-*.so*")
    ctypes.CDLL(str(library)).PQsetAuthDataHook(hook)
    found: dict[str, object] = {"version": pq.version(), "told": told}
    try:
        with psycopg.connect(dsn) as connection:
            found["rows"] = [list(row) for row in connection.execute(sql)]
    except psycopg.Error as error:
        found["error"] = str(error)
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
