"""Requests against rules on method, host, path, query, headers, type, size and upgrade: tables of verdicts."""

from __future__ import annotations

import pytest

from policy.document import load_document
from policy.facts import BodyState, HttpFacts, Subject, Target
from policy.http.evaluate import judge_http
from policy.view import MAX_VIEWS
from tests.policy.http.requests import API, GUEST, HEAD, OPS, A, D, H, document, judged, request, verdict

ALL = 'allow methods: ["*"]'


@pytest.mark.parametrize(
    ("rule", "facts", "is_meant"),
    [
        ("methods: [GET, HEAD]", request("GET /a"), True),
        ("methods: [GET, HEAD]", request("HEAD /a"), True),
        ("methods: [GET, HEAD]", request("POST /a"), False),
        ('methods: ["*"]', request("BREW /a"), True),
        ("hosts: [api.internal]", request("GET /"), True),
        ("hosts: [API.Internal]", request("GET /"), True),
        ("hosts: [api.internal]", request("GET /", host="api.internal:8443"), True),
        ('hosts: ["api.internal:8443"]', request("GET /", host="api.internal:8443"), True),
        ('hosts: ["api.internal:8443"]', request("GET /"), False),
        ('hosts: ["*.internal"]', request("GET /"), True),
        ('hosts: ["*.internal"]', request("GET /", host="internal"), False),
        ('hosts: ["*.internal"]', request("GET /", host="api.internal.evil.example"), False),
        ("hosts: [api.internal]", request("GET /", host="api.internal.evil.example"), False),
        ("paths: [/]", request("GET /"), True),
        ("paths: [/]", request("GET /a"), False),
        ("paths: [/a]", request("GET /a"), True),
        ("paths: [/a]", request("GET /ab"), False),
        ("paths: [/a]", request("GET /a/b"), False),
        ("paths: ['/v1/customers/{id}']", request("GET /v1/customers/7"), True),
        ("paths: ['/v1/customers/{id}']", request("GET /v1/customers"), False),
        ("paths: ['/v1/customers/{id}']", request("GET /v1/customers/7/cards"), False),
        ("paths: ['/v1/customers/{id}/cards']", request("GET /v1/customers/7/cards"), True),
        ("paths: ['/v1/{id}.json']", request("GET /v1/7.json"), True),
        ("paths: ['/v1/{id}.json']", request("GET /v1/7.xml"), False),
        ("paths: ['/v1/x*']", request("GET /v1/x"), True),
        ("paths: ['/v1/x*']", request("GET /v1/xy"), True),
        ("paths: ['/v1/x*']", request("GET /v1/y"), False),
        ("paths: ['/v1/*']", request("GET /v1/a"), True),
        ("paths: ['/v1/*']", request("GET /v1/a/b"), False),
        ("paths: ['/static/**']", request("GET /static"), True),
        ("paths: ['/static/**']", request("GET /static/"), True),
        ("paths: ['/static/**']", request("GET /static/a/b.css"), True),
        ("paths: ['/static/**']", request("GET /statics"), False),
        ("paths: ['/**/export']", request("GET /a/b/export"), True),
        ("paths: ['/**/export']", request("GET /export"), True),
        ("paths: ['/**/export']", request("GET /a/export/b"), False),
        ("paths: ['/**']", request("GET /"), True),
        ("paths: ['/caf\u00e9/*']", request("GET /caf%C3%A9/1"), True),
        ("paths: ['/a b']", request("GET /a%20b"), True),
        ("paths: ['/a b']", request("GET /a b"), True),
        ("paths: ['/100%']", request("GET /100%25"), True),
        ("query: {status: [open, 'clos*']}", request("GET /?status=open"), True),
        ("query: {status: [open, 'clos*']}", request("GET /?status=closed"), True),
        ("query: {status: [open, 'clos*']}", request("GET /?status=lost"), False),
        ("query: {status: [open]}", request("GET /"), False),
        ("query: {debug: absent}", request("GET /"), True),
        ("query: {debug: absent}", request("GET /?debug="), False),
        ("query: {debug: present}", request("GET /?debug="), True),
        ("query: {debug: present}", request("GET /"), False),
        ("query: {a: [x], b: [y]}", request("GET /?a=x&b=y"), True),
        ("query: {a: [x], b: [y]}", request("GET /?a=x&b=z"), False),
        ("headers: {X-Env: ['prod*']}", request("GET /", headers={"x-env": "prod-1"}), True),
        ("headers: {x-env: [prod]}", request("GET /", headers={"x-env": "dev"}), False),
        ("headers: {x-env: [prod]}", request("GET /"), False),
        ("headers: {x-debug: absent}", request("GET /"), True),
        ("headers: {x-debug: absent}", request("GET /", headers={"x-debug": ""}), False),
        ("headers: {x-debug: present}", request("GET /", headers={"x-debug": ""}), True),
        ("content_types: [application/json]", request("POST /", json={}), True),
        (
            "content_types: [application/json]",
            request("POST /", json={}, kind="Application/JSON; charset=utf-8"),
            True,
        ),
        ("content_types: ['application/*']", request("POST /", form="a=b"), True),
        ("content_types: [application/json]", request("POST /", form="a=b"), False),
        ("content_types: [application/json]", request("GET /"), False),
        ("upgrade: websocket", request("GET /", upgrade="websocket"), True),
        ("upgrade: websocket", request("GET /"), False),
        ("methods: [GET], paths: [/a], query: {b: [c]}", request("GET /a?b=c"), True),
        ("methods: [GET], paths: [/a], query: {b: [c]}", request("POST /a?b=c"), False),
        ("methods: [GET], paths: [/a], query: {b: [c]}", request("GET /b?b=c"), False),
    ],
)
def test_a_rule_means_the_same_in_allow_deny_and_hold(rule: str, facts: HttpFacts, is_meant: bool) -> None:
    """Where nothing is in doubt."""
    everything = ALL + ", upgrade: websocket" if facts.upgrade else ALL
    assert verdict(facts, f"allow {rule}") is (A if is_meant else D)
    if "'/**'" not in rule and rule not in ('methods: ["*"]', "upgrade: websocket"):  # that would be void
        assert verdict(facts, everything, f"deny {rule}") is (D if is_meant else A)
    assert verdict(facts, everything, f"hold {rule}") is (H if is_meant else A)
    assert verdict(facts, f"hold {rule}") is (H if is_meant else D)


BOTH = "neither allowed nor left alone"


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        # How a method can be spelt, and what else says which is meant
        ("methods: [DELETE]", request("delete /a")),
        ("methods: [DELETE]", request("Delete /a")),
        ("methods: [DELETE]", request("POST /a", headers={"x-http-method-override": "DELETE"})),
        ("methods: [DELETE]", request("POST /a", headers={"x-http-method": "delete"})),
        ("methods: [DELETE]", request("GET /a", headers={"x-method-override": " DELETE"})),
        ("methods: [DELETE]", request("POST /a", headers={"x_http_method_override": "DELETE"})),
        ("methods: [DELETE]", request("POST /a", headers={"x-http-method-override": "GET, DELETE"})),
        ("methods: [DELETE]", request("POST /a?_method=delete")),
        ("methods: [DELETE]", request("POST /a?_METHOD=delete")),
        # How a path can be spelt
        ("paths: [/admin]", request("GET /Admin")),
        ("paths: [/admin]", request("GET /ADMIN")),
        ("paths: [/admin]", request("GET /admin/")),
        ("paths: [/admin/]", request("GET /admin")),
        ("paths: [/admin]", request("GET //admin")),
        ("paths: ['/admin/users']", request("GET /admin//users")),
        ("paths: ['/a/admin/*']", request("GET /a%2Fadmin/x")),
        ("paths: ['/a/admin/*']", request("GET /a%2fadmin/x")),
        ("paths: ['/a/admin/*']", request("GET /a%252Fadmin/x")),
        ("paths: ['/a/admin/*']", request("GET /a%25252Fadmin/x")),
        ("paths: ['/a/admin/*']", request("GET /a%5Cadmin/x")),
        ("paths: ['/admin/*']", request("GET /public/..%2fadmin/x")),
        ("paths: ['/admin/*']", request("GET /public/%252e%252e/admin/x")),
        ("paths: ['/admin/*']", request("GET /public/..;/admin/x")),
        ("paths: ['/admin/*']", request("GET /public/..;a=b/admin/x")),
        ("paths: ['/admin/*']", request("GET /admin;jsessionid=1/x")),
        ("paths: ['/admin/*']", request("GET /./admin/x")),
        ("paths: ['/admin/*']", request("GET /public/../admin/x")),
        ("paths: ['/admin/*']", request("GET /public/x", others=("/admin/x",))),
        ("paths: ['/admin/*']", request("GET /%61dmin%2Fx")),
        ("paths: ['/admin/*']", request("GET /\uff41dmin/x")),
        ("paths: ['/admin/*']", request("GET /%EF%BD%81dmin/x")),
        ("paths: ['/kontakte/*']", request("GET /\u212aontakte/x")),
        ("paths: ['/admin/*']", request("GET /admin%00/x")),
        ("paths: ['/admin/*']", request("GET /x%c0%afadmin/y")),
        ("paths: ['/admin/*']", request("OPTIONS *")),
        ("paths: ['/admin/*']", request("GET admin/x")),
        ("paths: ['/admin/*']", request("GET ")),
        ("paths: ['/admin/*']", request("GET /%25252525252e/x")),
        # Parameters twice, or under another name
        ("query: {role: [admin]}", request("GET /?role=user&role=admin")),
        ("query: {role: [admin]}", request("GET /?role=admin&role=user")),
        ("query: {role: [admin]}", request("GET /?role=ADMIN")),
        ("query: {role: [admin]}", request("GET /?Role=admin")),
        ("query: {role: [admin]}", request("GET /?role[]=admin")),
        ("query: {role: [admin]}", request("GET /?role[0]=admin")),
        ("query: {role: [admin]}", request("GET /?role%5B%5D=admin")),
        # Fields twice, as lists, or under another name
        ("headers: {x-role: [admin]}", request("GET /", headers=(("x-role", "user"), ("x-role", "admin")))),
        ("headers: {x-role: [admin]}", request("GET /", headers=(("x-role", "admin"), ("x-role", "user")))),
        ("headers: {x-role: [admin]}", request("GET /", headers={"x-role": "user, admin"})),
        ("headers: {x-role: [admin]}", request("GET /", headers={"x-role": "Admin"})),
        ("headers: {x-role: [admin]}", request("GET /", headers={"x_role": "admin"})),
        # Types that are not said, or said twice
        ("query: {user_role: [admin]}", request("GET /?user.role=admin")),
        ("content_types: [application/json]", request("POST /", state=BodyState.UNKNOWN)),
        (
            "content_types: [application/json]",
            request("POST /", form="a", kind="text/plain, application/json"),
        ),
        (
            "content_types: [application/json]",
            request(
                "POST /",
                form="a",
                headers=(("content-type", "text/plain"), ("content-type", "application/json")),
            ),
        ),
    ],
)
def test_what_is_in_doubt_is_denied_and_not_allowed(rule: str, facts: HttpFacts) -> None:
    assert verdict(facts, f"allow {rule}") is D
    assert verdict(facts, ALL, f"deny {rule}") is D
    assert verdict(facts, ALL, f"hold {rule}") is H


@pytest.mark.parametrize(
    ("allowed", "facts"),
    [
        ("paths: ['/public/**']", request("GET /public/..;/admin")),
        ("paths: ['/public/**']", request("GET /public/..%2fadmin")),
        ("paths: ['/public/**']", request("GET /public/%252e%252e/admin")),
        ("paths: ['/public/**']", request("GET /public/x", others=("/admin",))),
        ("paths: ['/public/**']", request("GET /public/%00")),
        ("paths: ['/public/**']", request("GET /public/%c0%ae%c0%ae/admin")),
        ("paths: ['/public/**']", request("GET /Public/x")),
        ("paths: ['/files/{name}']", request("GET /files/")),
        ("paths: ['/files/{name}']", request("GET /files/a%2Fb")),
        ("paths: ['/files/a']", request("GET /files/a/")),
        ("paths: ['/a/**']", request("OPTIONS *")),
        ("methods: [POST]", request("POST /a", headers={"x-http-method-override": "DELETE"})),
        ("methods: [POST]", request("POST /a?_method=PATCH")),
        ("query: {role: [user]}", request("GET /?role=user&role=admin")),
        ("query: {role: [user]}", request("GET /?role=user&Role=admin")),
        ("query: {role: [user]}", request("GET /?role=user&role[]=admin")),
        ("query: {role: absent}", request("GET /?ROLE=admin")),
        ("query: {role: absent}", request("GET /?role[x]=admin")),
        ("query: {role: [user]}", request("GET /?ROLE=user")),
        ("headers: {x-role: [user]}", request("GET /", headers=(("x-role", "user"), ("x-role", "admin")))),
        ("headers: {x-role: ['user*']}", request("GET /", headers={"x-role": "user, admin"})),
        ("headers: {x-role: [user]}", request("GET /", headers={"x-role": "user", "x_role": "admin"})),
        ("headers: {x-role: absent}", request("GET /", headers={"x_role": "admin"})),
        ("hosts: [api.internal]", request("GET /", upgrade="websocket")),
        ('methods: ["*"]', request("GET /", upgrade="websocket")),
        ("methods: [GET], upgrade: websocket", request("GET /", upgrade="h2c")),
        ("body_bytes: {max: 1KiB}", request("POST /", size=1025, state=BodyState.UNREAD)),
        ("body_bytes: {max: 1KiB}", request("POST /", size=None, state=BodyState.UNREAD)),
    ],
)
def test_what_is_not_certain_is_not_covered(allowed: str, facts: HttpFacts) -> None:
    assert verdict(facts, f"allow {allowed}") is D


@pytest.mark.parametrize(
    ("rule", "facts"),
    [
        ("paths: ['/files/**']", request("GET /files/a%2Fb")),
        ("paths: ['/files/**']", request("GET /files/a;v=1/b")),
        ("paths: ['/files/**', '/other']", request("GET /files/a", others=("/other",))),
        ("paths: ['/**']", request("OPTIONS *")),
        ("paths: ['/**']", request("GET /%00")),
        ("methods: [POST, DELETE]", request("POST /a", headers={"x-http-method-override": "DELETE"})),
        ("headers: {accept: ['text/*']}", request("GET /", headers={"accept": "text/html, text/plain"})),
        (
            "headers: {date: ['*, * GMT']}",
            request("GET /", headers={"date": "Sun, 06 Nov 1994 08:49:37 GMT"}),
        ),
        ("body_bytes: {max: 1KiB}", request("POST /", size=1024, state=BodyState.UNREAD)),
        ("body_bytes: {max: 1KiB}", request("GET /")),
    ],
)
def test_what_is_certain_is_covered(rule: str, facts: HttpFacts) -> None:
    assert verdict(facts, f"allow {rule}") is A


def test_sizes_that_are_denied() -> None:
    rules = (ALL, "deny body_bytes: {min: 1KiB}")
    assert verdict(request("POST /", size=1023, state=BodyState.UNREAD), *rules) is A
    assert verdict(request("POST /", size=1024, state=BodyState.UNREAD), *rules) is D
    assert verdict(request("POST /", size=None, state=BodyState.TOO_LARGE), *rules) is D


def test_a_deny_beats_a_hold_and_both_an_allow() -> None:
    rules = ("allow paths: ['/**']", "hold paths: ['/a/**']", "deny paths: ['/a/b']")
    assert [verdict(request(f"GET {path}"), *rules) for path in ("/c", "/a/c", "/a/b")] == [A, H, D]


def test_reasons_name_the_rules_and_what_to_do() -> None:
    decision = judged(request("POST /v1/pay?token=secret"), "allow methods: [GET]", "deny paths: [/v1/pay]")
    denied, uncovered = decision.reasons
    assert (denied.rule, denied.message) == ("deny-1", "`POST /v1/pay` is denied")
    assert denied.hint == "Ask the owners of the policy about rule deny-1."
    assert (uncovered.rule, uncovered.message) == ("", "no rule allows `POST /v1/pay`")
    assert "secret" not in str(decision)
    (reason,) = judged(request("GET /"), "hold paths: [/]").reasons
    assert "until an approval by boss" in reason.message


def test_an_upgrade_says_what_it_needs() -> None:
    (reason,) = judged(request("GET /chat", upgrade="websocket"), "allow paths: [/chat]").reasons
    assert "upgrade" in reason.message
    assert "`upgrade: websocket`" in reason.hint


def test_a_method_in_a_header_is_told() -> None:
    facts = request("POST /a", headers={"x-http-method-override": "DELETE"})
    (reason,) = judged(facts, "allow methods: [POST]").reasons
    assert "DELETE" in reason.message


def test_nothing_that_a_client_sends_reaches_a_terminal_as_it_is() -> None:
    (reason,) = judged(request("GE\x1bT /a\x1b[31m\n" + "x" * 5000), "allow methods: [GET]").reasons
    assert reason.message.isprintable()
    assert len(reason.message) < 400


def test_access_counts_with_every_request() -> None:
    policy = document("allow paths: ['/**']")
    assert judge_http(policy, OPS, API, "default", request("GET /")).effect is A
    assert judge_http(policy, OPS, API, "root", request("GET /")).effect is D
    (reason,) = judge_http(policy, OPS, API, "root", request("GET /")).reasons
    assert "Proxyd-Login" in reason.hint


def test_rules_of_other_roles_and_targets_do_not_count() -> None:
    rule = "rules:\n  - {{name: r, effect: allow, {}, http: {{paths: ['/**']}}}}\n"
    for_guests = load_document(HEAD + rule.format("roles: [guest]"), "p.yaml")
    elsewhere = load_document(HEAD + rule.format("targets: {names: [other]}"), "p.yaml")
    assert judge_http(for_guests, OPS, API, "default", request("GET /")).effect is D
    assert judge_http(for_guests, GUEST, API, "default", request("GET /")).effect is A
    assert judge_http(elsewhere, OPS, API, "default", request("GET /")).effect is D


def test_whoever_asks_is_told_apart_however_alike_they_are() -> None:
    """What is remembered of the one who asked is of that object alone, also when another takes its place in memory."""
    policy = load_document(
        HEAD + "rules:\n  - {name: r, effect: allow, roles: [guest], http: {paths: ['/**']}}\n", "p.yaml"
    )
    for number in range(3000):
        subject = Subject(f"s{number}", ("guests",) if number % 3 else ("ops",))
        target = Target("api", "http", {"number": str(number % 5)})
        effect = judge_http(policy, subject, target, "default", request("GET /")).effect
        assert effect is (A if number % 3 else D)
    assert len(policy.seen) <= MAX_VIEWS
