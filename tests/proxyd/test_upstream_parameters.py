from __future__ import annotations

import pytest

from proxyd.upstream_parameters import startup_parameters


@pytest.mark.parametrize(
    ("client", "forwarded"),
    [
        ({}, {}),
        ({"user": "a", "database": "shop"}, {}),
        ({"application_name": "psql"}, {"application_name": "psql"}),
        ({"datestyle": "ISO", "TIMEZONE": "UTC"}, {"DateStyle": "ISO", "TimeZone": "UTC"}),
        ({"client_encoding": "UTF8"}, {"client_encoding": "UTF8"}),
        ({"client_encoding": "'utf-8'"}, {"client_encoding": "UTF8"}),
        ({"client_encoding": "SQL_ASCII"}, {"client_encoding": "UTF8"}),
        ({"client_encoding": "Unicode"}, {"client_encoding": "UTF8"}),
        (
            {"extra_float_digits": "2", "statement_timeout": "5s"},
            {"extra_float_digits": "2", "statement_timeout": "5s"},
        ),
        ({"standard_conforming_strings": "ON"}, {"standard_conforming_strings": "ON"}),
        ({"options": ""}, {}),
        ({"options": " \t\n"}, {}),
        ({"options": "-c search_path=shop"}, {"search_path": "shop"}),
        ({"options": "-csearch_path=shop"}, {"search_path": "shop"}),
        ({"options": "--search-path=shop"}, {"search_path": "shop"}),
        ({"options": r"-c application_name=a\ b\\c"}, {"application_name": r"a b\c"}),
        (
            {"options": "-c lock_timeout=1s -c statement_timeout=2s"},
            {"lock_timeout": "1s", "statement_timeout": "2s"},
        ),
        ({"options": "-c application_name=first", "application_name": "last"}, {"application_name": "last"}),
        ({"_pq_.feature": "x"}, {}),
        ({"application_name": ""}, {"application_name": ""}),
    ],
)
def test_allowed(client: dict[str, str], forwarded: dict[str, str]) -> None:
    assert startup_parameters(client) == (forwarded, [])


@pytest.mark.parametrize(
    ("client", "name"),
    [
        ({"replication": "database"}, "replication"),
        ({"replication": "off"}, "replication"),
        ({"REPLICATION": "true"}, "REPLICATION"),
        ({"role": "postgres"}, "role"),
        ({"session_authorization": "postgres"}, "session_authorization"),
        ({"standard_conforming_strings": "off"}, "standard_conforming_strings"),
        ({"standard_conforming_strings": "of"}, "standard_conforming_strings"),
        ({"client_encoding": "SJIS"}, "client_encoding"),
        ({"client_encoding": "utf16"}, "client_encoding"),
        ({"client_encoding": ""}, "client_encoding"),
        ({"row_security": "off"}, "row_security"),
        ({"local_preload_libraries": "x"}, "local_preload_libraries"),
        ({"application_name": "x" * 2000}, "application_name"),
        ({"application_name": "a\0b"}, "application_name"),
        ({"options": "-c role=postgres"}, "role"),
        ({"options": "-crole=postgres"}, "role"),
        ({"options": "--role=postgres"}, "role"),
        ({"options": "--session-authorization=postgres"}, "session_authorization"),
        ({"options": "-c standard_conforming_strings=off"}, "standard_conforming_strings"),
        ({"options": "--standard-conforming-strings=0"}, "standard_conforming_strings"),
        ({"options": r"-c\ role=postgres"}, " role"),
        ({"options": r"-c r\ole=postgres"}, "role"),
        ({"options": "-c\trole=postgres"}, "role"),
        ({"options": "-c replication=1"}, "replication"),
        ({"options": "-c client_encoding=BIG5"}, "client_encoding"),
        ({"options": "-c --role=postgres"}, "__role"),
        ({"options": "-P"}, "options"),
        ({"options": "-e"}, "options"),
        ({"options": "-ec role=postgres"}, "options"),
        ({"options": "-O"}, "options"),
        ({"options": "-d 5"}, "options"),
        ({"options": "-W 100"}, "options"),
        ({"options": "role=postgres"}, "options"),
        ({"options": "--"}, "options"),
        ({"options": "-- -c role=postgres"}, "options"),
        ({"options": "-"}, "options"),
        ({"options": "-c"}, "options"),
        ({"options": "-c role"}, "options"),
        ({"options": "-c =x"}, "options"),
        ({"options": "--role"}, "options"),
        ({"options": "--=x"}, "options"),
        ({"options": "\\"}, "options"),
        ({"Options": "-c role=postgres"}, "Options"),
        ({"_pq": "x"}, "_pq"),
    ],
)
def test_refused(client: dict[str, str], name: str) -> None:
    forwarded, refused = startup_parameters(client)
    assert [refusal[0] for refusal in refused] == [name]
    assert all(reason for _, reason in refused)
    assert forwarded == {}


def test_one_bad_switch_spoils_all_options() -> None:
    forwarded, refused = startup_parameters({"options": "-c lock_timeout=1s -P", "DateStyle": "ISO"})
    assert forwarded == {"DateStyle": "ISO"}
    assert [name for name, _ in refused] == ["options"]
