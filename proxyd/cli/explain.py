"""`proxyd explain`: what would be decided about a statement, an SSH operation or an HTTP request, without doing it."""

# What is heavy is imported when the command runs, so that `proxyd --help` answers at once.
# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from proxyd.cli.http_operation import AskedTarget, add_request, has_request_options, request_of
from proxyd.cli.options import add_config
from proxyd.cli.ssh_operation import add_operations, operation_of

if TYPE_CHECKING:
    from msgspec import Struct

    from policy.document import PolicyDocument
    from policy.facts import Subject
    from proxyd.config import Config, HttpTarget, Login, PostgresTarget, SshTarget
    from proxyd.explanation import Sight
    from proxyd.upstream import UpstreamTarget

CATALOG_TIMEOUT_S = 60.0

_DESCRIPTION = """\
Say what the gateway would decide if SUBJECT asked this of TARGET, and why: roles, admission, what is done, the
rules that match, the masks that apply. Nothing is run.

SQL, for targets that speak postgres: the target's catalog is read over the gateway's own connection, so that names,
views and columns are the real ones. One operation (--shell, --exec, ...), for targets that speak ssh: the target is
not asked, and paths are taken as they stand. One request (--path, with --method, --header, --json-body, ...), for
targets that speak http."""

_EPILOG = """\
examples:
  proxyd explain --subject ann --group data --target shop "select email from shop.customers"
  proxyd explain --subject bob --group ops --target web1 --exec "systemctl restart nginx"
  proxyd explain --subject bob --group ops --target web1 --file rename /srv/www/a /srv/www/b
  proxyd explain --subject ann --group data --target api --path "/v1/orders?status=open"
  proxyd explain --subject ann --group data --target api --method POST --path /v1/pay --json-body '{"amount": 7}'

The gateway looks once more at what the target says about the result, and refuses what it cannot mask: an
`allow` here is what policy and catalog say.

exit status: 0 explained, whatever the answer; 1 faults; 2 wrong command line"""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = subparsers.add_parser(
        "explain",
        help="say what would be decided about a statement, an SSH operation or an HTTP request, and why",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_config(parser)
    parser.add_argument("--policy", type=Path, metavar="FILE", help="judge by this policy")
    parser.add_argument("--subject", required=True, metavar="NAME", help="who asks")
    parser.add_argument(
        "--group", action="append", default=[], metavar="G", help="a group of theirs (repeat)"
    )
    parser.add_argument(
        "--claim", action="append", default=[], metavar="K=V", type=_claim, help="a claim of theirs (repeat)"
    )
    parser.add_argument("--target", required=True, metavar="T[/DATABASE]", help="the configured target")
    parser.add_argument("--login", metavar="L", help="the login (needed when the target has several)")
    parser.add_argument("--no-catalog", action="store_true", help="do not connect to the target")
    parser.add_argument("--json", action="store_true", help="print JSON")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("sql", nargs="?", metavar="SQL", help="the text, as the client would send it")
    add_operations(what)
    add_request(parser, what)
    parser.set_defaults(run=run)


def _claim(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is not KEY=VALUE")
    return key, value


def run(options: argparse.Namespace) -> int:
    from policy.located_yaml import DocumentError
    from proxyd.config import HttpTarget, PostgresTarget, SshTarget
    from proxyd.references import Material

    try:
        material = Material.read(options.config, time.time(), options.policy)
    except DocumentError as error:
        print(error, file=sys.stderr)
        return 1
    target_name, _, database = options.target.partition("/")
    target = material.config.target(target_name)
    if target is None:
        known = ", ".join(target.name for target in material.config.targets)
        return _fault(f"there is no target {target_name!r}; configured: {known}")
    if not isinstance(target, HttpTarget) and (options.path is not None or has_request_options(options)):
        return _fault(f"the target {target_name!r} speaks {target.protocol}, and takes no HTTP request")
    if isinstance(target, PostgresTarget):
        return _run_sql(options, material.policy, target, database)
    if database:
        return _fault(f"the target {target_name!r} speaks {target.protocol}, and has no databases")
    if isinstance(target, SshTarget):
        return _run_ssh(options, material.policy, target)
    return _run_http(options, material.policy, target, material.config)


def _run_sql(
    options: argparse.Namespace, policy: PolicyDocument, target: PostgresTarget, database: str
) -> int:
    from policy import facts
    from proxyd.explanation import Question, explain, render

    if options.sql is None:
        return _fault(f"the target {target.name!r} speaks {target.protocol}; give the SQL")
    login = _choose_login(target, options.login)
    if login is None:
        return _fault(f"--login: name one of {', '.join(login.name for login in target.logins)}")
    database = database or target.database
    if not target.allows_database(database):
        return _fault(f"database {database!r} is not one of the target's databases")
    question = Question(
        subject=_subject(options),
        target=facts.Target(target.name, target.protocol, dict(target.labels)),
        login=login.name,
        database=database,
        text=options.sql,
        now=time.time(),
    )
    sight = _look(target, login, database, is_offline=options.no_catalog)
    explanation = explain(policy, question, sight)
    return _print(explanation, render(explanation), as_json=options.json)


def _run_ssh(options: argparse.Namespace, policy: PolicyDocument, target: SshTarget) -> int:
    from policy import facts
    from proxyd.ssh_explanation import SshQuestion, explain_ssh, render_ssh

    if options.sql is not None:
        return _fault(
            f"the target {target.name!r} speaks {target.protocol}, and no SQL; give --exec, --shell, ..."
        )
    name = _one_login(target, options.login)
    if name is None:
        return 1
    question = SshQuestion(
        subject=_subject(options),
        target=facts.Target(target.name, target.protocol, dict(target.labels)),
        login=name,
        facts=operation_of(options),
        now=time.time(),
    )
    explanation = explain_ssh(policy, question)
    return _print(explanation, render_ssh(explanation), as_json=options.json)


def _run_http(options: argparse.Namespace, policy: PolicyDocument, target: HttpTarget, config: Config) -> int:
    from policy import facts
    from proxyd.http_explanation import HttpQuestion, explain_http, render_http

    if options.path is None:
        return _fault(f"the target {target.name!r} speaks {target.protocol}; give --path")
    name = _one_login(target, options.login)
    if name is None:
        return 1
    asked = request_of(
        options,
        AskedTarget(target.url.host, target.url.scheme, target.api or "", target.encoded_slashes == "keep"),
        config.models.table(),
    )
    question = HttpQuestion(
        subject=_subject(options),
        target=facts.Target(target.name, target.protocol, dict(target.labels)),
        login=name,
        facts=asked.facts,
        head=asked.head,
        now=time.time(),
        refusal=asked.refusal,
    )
    explanation = explain_http(policy, question)
    return _print(explanation, render_http(explanation), as_json=options.json)


def _one_login(target: SshTarget | HttpTarget, name: str | None) -> str | None:
    """The login that is named, or the only one there is; None, once that has been told, when it cannot be said."""
    names = [login.name for login in target.logins]
    chosen = name or (names[0] if len(names) == 1 else None)
    if chosen in names:
        return chosen
    _fault(f"--login: name one of {', '.join(names)}")
    return None


def _subject(options: argparse.Namespace) -> Subject:
    from policy import facts

    return facts.Subject(options.subject, tuple(options.group), _claims(options.claim))


def _print(explanation: Struct, text: str, *, as_json: bool) -> int:
    import msgspec

    print(msgspec.json.format(msgspec.json.encode(explanation), indent=2).decode() if as_json else text)
    return 0


def _fault(text: str) -> int:
    print(f"proxyd explain: {text}", file=sys.stderr)
    return 1


def _choose_login(target: PostgresTarget, name: str | None) -> Login | None:
    if name is not None:
        return target.login(name)
    usable = [login for login in target.logins if login.name != target.catalog.login] or target.logins
    return usable[0] if len(usable) == 1 else None


def _claims(pairs: list[tuple[str, str]]) -> dict[str, str | list[str]]:
    """A key given more than once is a list."""
    claims: dict[str, str | list[str]] = {}
    for key, value in pairs:
        known = claims.get(key)
        match known:
            case None:
                claims[key] = value
            case str():
                claims[key] = [known, value]
            case list():
                known.append(value)
    return claims


def _look(target: PostgresTarget, login: Login, database: str, *, is_offline: bool) -> Sight:
    """The target's catalog and the login's search path, or what there is without them."""
    import trio

    from policy.sql.catalog import CatalogRows, build_catalog
    from policy.sql.state import SessionState
    from proxyd.catalog import CatalogUnavailable
    from proxyd.explanation import Sight
    from proxyd.upstream import UpstreamError

    if is_offline:
        why = "--no-catalog"
    else:
        try:
            return trio.run(_look_at, target, login, database)
        except (UpstreamError, CatalogUnavailable, trio.TooSlowError) as error:
            why = str(error) or f"no answer within {CATALOG_TIMEOUT_S:g} s"
    unknown = f"relations, columns, views, functions and so what is masked: no catalog ({why})"
    assumed = "the search path: the server's default is assumed"
    state = SessionState(login_role=login.account)
    return Sight(build_catalog(CatalogRows()), state, (unknown, assumed))


async def _look_at(target: PostgresTarget, login: Login, database: str) -> Sight:
    import trio

    from policy.sql.state import SessionState
    from proxyd.catalog import CatalogSource
    from proxyd.explanation import Sight
    from proxyd.upstream import UpstreamTarget

    upstream = UpstreamTarget.from_config(target)
    reader = target.login(target.catalog.login) or login
    with trio.fail_after(CATALOG_TIMEOUT_S):
        source = CatalogSource(upstream, reader, database, connect_timeout_s=target.connect_timeout)
        try:
            catalog = await source.refresh()
        finally:
            await source.aclose()
        path = await _search_path(upstream, login, database, target.connect_timeout)
    return Sight(catalog, SessionState(search_path=path, login_role=login.account))


async def _search_path(
    upstream: UpstreamTarget, login: Login, database: str, deadline_s: float
) -> tuple[str, ...] | None:
    """Where the login's unqualified names are looked up, by asking the target as the door does."""
    from proxyd.gates.postgres.search_path import parse_search_path
    from proxyd.upstream import connect
    from proxyd.upstream_query import query

    connection = await connect(upstream, login, database, {}, deadline_s=deadline_s)
    try:
        rows = await query(connection, "SHOW search_path")
    finally:
        await connection.aclose()
    value = rows[0][0] if rows else None
    return None if value is None else parse_search_path(value)
