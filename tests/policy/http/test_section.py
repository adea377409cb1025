"""Every fault and warning of the `http` section, and of `llm` and masks of bodies beside it, with line and remedy."""

from __future__ import annotations

import pytest

from policy.document import DocumentError, load_document
from policy.http_rules.section import NEVER_SEEN, NEVER_SEEN_PREFIXES
from proxyd.http_credentials.injecting import _NEVER, NEVER_PREFIXES, never_goes_on
from tests.policy.http.requests import HEAD


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_document(text, "p.yaml")
    assert all(fault.remedy for fault in caught.value.faults)
    return [str(fault).removeprefix("p.yaml:") for fault in caught.value.faults]


def fault_of(section: str, effect: str = "allow", more: str = "") -> str:
    approval = "    approval: {approvers: [boss]}\n" if effect == "hold" else ""
    rule = f"  - name: r\n    effect: {effect}\n{more}    http: {section}\n{approval}"
    faults = faults_of(f"{HEAD}rules:\n{rule}")
    assert len(faults) == 1, faults
    return faults[0]


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{}", "10:5: rules[0].http: says nothing about what it matches; give `methods`"),
        ("{method: [GET]}", "10:12: rules[0].http.method: unknown key; did you mean `methods`?"),
        ("{models: [x]}", "10:12: rules[0].http.models: unknown key"),
        ("{methods: []}", "10:12: rules[0].http.methods: an empty list"),
        ("{methods: GET}", "10:12: rules[0].http.methods: `GET` is not a list"),
        ("{methods: [get]}", "10:22: rules[0].http.methods[0]: `get` is not written as a method is sent; write `GET`"),
        ("{methods: [G*]}", "10:22: rules[0].http.methods[0]: `G*` is not a method; write methods in full"),
        ("{methods: [A B]}", "10:22: rules[0].http.methods[0]: `A B` is not a method"),
        ("{methods: [CONNECT]}", "10:22: rules[0].http.methods[0]: `CONNECT` never reaches a target; remove it"),
        ("{methods: [TRACE]}", "10:22: rules[0].http.methods[0]: `TRACE` never reaches a target; remove it"),
        ("{hosts: ['https://x']}", "10:20: rules[0].http.hosts[0]: `https://x` is not the name of a host"),
        ("{hosts: [x/y]}", "10:20: rules[0].http.hosts[0]: `x/y` is not the name of a host"),
        ("{paths: [v1]}", "10:20: rules[0].http.paths[0]: `v1` can match no path: it does not begin with `/`"),
        ("{paths: ['**/x']}", "10:20: rules[0].http.paths[0]: `**/x` can match no path: it does not begin"),
        ("{paths: ['/a?b=c']}", "10:20: rules[0].http.paths[0]: `/a?b=c` can match no path: a path ends before `?`"),
        ("{paths: ['/a#b']}", "10:20: rules[0].http.paths[0]: `/a#b` can match no path: a path ends before `#`"),
        ("{paths: ['/a%20b']}", "10:20: rules[0].http.paths[0]: `/a%20b` is encoded: paths are compared decoded"),
        ("{paths: [/a/../b]}", "10:20: rules[0].http.paths[0]: `/a/../b` can match no path: paths are compared"),
        ("{paths: [/a//b]}", "10:20: rules[0].http.paths[0]: `/a//b` can match no path"),
        ("{paths: [/a/.]}", "10:20: rules[0].http.paths[0]: `/a/.` can match no path"),
        ("{paths: ['/a/b**']}", "10:20: rules[0].http.paths[0]: `/a/b**`: `**` stands for whole segments"),
        ("{paths: ['/a/{id']}", "10:20: rules[0].http.paths[0]: `/a/{id`: a brace without its other half"),
        ("{paths: ['/a/id}']}", "10:20: rules[0].http.paths[0]: `/a/id}`: a brace without its other half"),
        ("{paths: ['/a/{}']}", "10:20: rules[0].http.paths[0]: `/a/{}`: `{}` is not a name in braces"),
        ("{paths: ['/a/{b c}']}", "10:20: rules[0].http.paths[0]: `/a/{b c}`: `{b c}` is not a name in braces"),
        ("{paths: ['/a;b=c']}", "10:20: rules[0].http.paths[0]: `/a;b=c` has parameters behind `;`"),
        ("{paths: ['/a\\b']}", "10:20: rules[0].http.paths[0]: `/a\\b` has a character that a path cannot have"),
        ("{query: {}}", "10:12: rules[0].http.query: "),
        ("{query: {a: x}}", "10:20: rules[0].http.query.a: `x` is not a list; write `[x]`"),
        ("{query: {a: 5}}", "10:20: rules[0].http.query.a: not a list of values; write a list of texts"),
        ("{query: {a: [5]}}", "10:24: rules[0].http.query.a[0]: `5` is not text; write text (put it in quotes)"),
        ("{query: {a: []}}", "10:20: rules[0].http.query.a: an empty list"),
        ("{headers: {'x y': [a]}}", "10:22: rules[0].http.headers"),
        ("{headers: {Authorization: present}}", "10:22: rules[0].http.headers.Authorization: `Auth"),
        ("{headers: {content-length: present}}", "10:22: rules[0].http.headers.content-length: `content-length`"),
        ("{headers: {host: [x]}}", "10:22: rules[0].http.headers.host: `host` is made anew"),
        ("{content_types: [json]}", "10:28: rules[0].http.content_types[0]: `json` is not a content type"),
        ("{content_types: ['text/plain; charset=utf-8']}", "10:28: rules[0].http.content_types[0]: `text/plain; ch"),
        ("{body_bytes: 5}", "10:12: rules[0].http.body_bytes: `5` is not a mapping"),
        ("{body_bytes: {}}", "10:12: rules[0].http.body_bytes: not one bound"),
        ("{body_bytes: {max: 5}}", "10:25: rules[0].http.body_bytes.max: `5` is not a size"),
        ("{body_bytes: {min: 1KiB}}", "10:25: rules[0].http.body_bytes.min: a rule that allows only what is large"),
        ("{upgrade: h2c}", "10:12: rules[0].http.upgrade: `h2c` is not one of the choices; use one of `websocket`"),
        ("{body: {amount: [1]}}", "10:19: rules[0].http.body.amount: `amount` does not begin with `$`"),
        ("{body: {'$[?(@.x)]': [1]}}", "10:19: rules[0].http.body"),
        ("{body: {$.a: x}}", "10:19: rules[0].http.body.$.a: `x` is not a list; write `[x]`"),
        ("{body: {$.a: true}}", "10:19: rules[0].http.body.$.a: true is not a list; write `[true]`"),
        ("{body: {$.a: 5}}", "10:19: rules[0].http.body.$.a: 5 is not a list; write `[5]`"),
        ("{body: {$.a: {}}}", "10:19: rules[0].http.body.$.a: says nothing; write a list of values"),
        ("{body: {$.a: {mx: 5}}}", "10:25: rules[0].http.body.$.a.mx: `mx` is not a bound; write `min`"),
        ("{body: {$.a: {values: [5]}}}", "10:25: rules[0].http.body.$.a.values: `values` is not a bound"),
        ("{body: {$.a: {min: 5, max: 1}}}", "10:25: rules[0].http.body.$.a.min: no number is between these"),
    ],
)  # fmt: skip
def test_what_can_match_nothing_is_a_fault(section: str, expected: str) -> None:
    assert fault_of(section).startswith(expected)


@pytest.mark.parametrize("effect", ["deny", "hold"])
def test_what_is_small_is_neither_denied_nor_held(effect: str) -> None:
    fault = fault_of("{body_bytes: {max: 1KiB}}", effect)
    assert fault.startswith(
        f"10:25: rules[0].http.body_bytes.max: a rule that says {effect} for what is small"
    )


def test_other_protocols() -> None:
    fault = fault_of("{methods: [GET]}", more="    targets: {protocol: ssh}\n")
    assert fault.startswith(
        "10:15: rules[0].targets.protocol: can never match: `http` on targets that speak ssh"
    )
    (fault,) = faults_of(
        HEAD + "rules:\n  - {name: r, effect: deny, llm: {models: [x]}, targets: {protocol: postgres}}\n"
    )
    assert (
        "can never match: `llm` on targets that speak postgres; remove `protocol`, or make it http" in fault
    )


def test_what_a_rule_about_models_can_say() -> None:
    (fault,) = faults_of(HEAD + "rules:\n  - {name: r, effect: allow, llm: {prompts: [x]}}\n")
    assert "rules[0].llm.prompts: a rule that allows by what a prompt says" in fault


@pytest.mark.parametrize(
    "section",
    [
        "{methods: ['*']}",
        "{methods: [PROPFIND]}",
        "{hosts: ['*.internal', 'api.internal:8443', '[fd00::1]', '*']}",
        "{paths: ['/', '/a/', '/{a}/{b.c}.json', '/**', '/a/**/b', '/caf\u00e9', '/100%', '/a b']}",
        "{query: {'a b': ['*'], 'c[]': present}}",
        "{headers: {X-Env: [a], cookie: absent}}",
        "{content_types: ['*', 'text/*', application/vnd.api+json]}",
        "{body: {'$': present, '$..a': [1, 1.5, true, null, x], \"$['b c'][0]\": {min: -1.5}}}",
        "{body_bytes: {max: 1MiB}, upgrade: websocket}",
    ],
)
def test_what_can_match(section: str) -> None:
    assert load_document(
        f"{HEAD}rules:\n  - {{name: r, effect: allow, http: {section}}}\n", "p.yaml"
    ).http_rules


def shadowing(allow: str, deny: str) -> str:
    return f"{HEAD}rules:\n  - {{name: a, effect: allow, {allow}}}\n  - {{name: d, effect: deny, {deny}}}\n"


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        ("http: {methods: [GET]}", "http: {methods: [GET, POST]}"),
        ("http: {methods: [GET]}", "http: {methods: ['*']}"),
        ("http: {paths: [/a/b]}", "http: {paths: ['/a/**']}"),
        ("http: {paths: [/a/b]}", "http: {paths: ['/**']}"),
        ("http: {paths: ['/a/{id}']}", "http: {paths: ['/a/*']}"),
        ("http: {paths: ['/a/{id}/x']}", "http: {paths: ['/a/{name}/**']}"),
        ("http: {paths: ['/a/b', '/a/c']}", "http: {paths: ['/a/*']}"),
        ("http: {paths: [/A/b]}", "http: {paths: [/A/b]}"),
        ("http: {paths: [/a], query: {x: [y]}}", "http: {paths: [/a]}"),
        ("http: {paths: [/a], query: {x: [y]}}", "http: {query: {x: [y]}}"),
        ("http: {hosts: [a.internal]}", "http: {hosts: ['*.internal']}"),
        ("http: {hosts: [a.internal]}", "http: {hosts: ['*']}"),
        ("http: {content_types: [a/b]}", "http: {content_types: ['a/b', 'c/d']}"),
        ("http: {paths: [/a], upgrade: websocket}", "http: {paths: [/a]}"),
        ("http: {body: {$.a: [x]}}", "http: {body: {$.a: [x]}}"),
        ("llm: {models: [x]}", "llm: {models: [x]}"),
        ("llm: {models: [x]}", "http: {methods: ['*']}"),
        ("http: {paths: ['/v1/**']}, llm: {models: [x]}", "http: {paths: ['/v1/**']}"),
        ("http: {methods: [GET]}, roles: [ops]", "http: {methods: [GET]}, roles: [ops, guest]"),
    ],
)
def test_an_allow_rule_that_a_deny_rule_makes_void(allow: str, deny: str) -> None:
    (fault,) = faults_of(shadowing(allow, deny))
    assert fault.startswith("8:5: rules[0]: can never match: deny rule `d` matches everything that it allows")


@pytest.mark.parametrize(
    ("allow", "deny"),
    [
        ("http: {methods: [GET]}", "http: {methods: [POST]}"),
        ("http: {methods: ['*']}", "http: {methods: [GET]}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], methods: [GET]}"),
        ("http: {paths: ['/a/**']}", "http: {paths: ['/a/*']}"),
        ("http: {paths: ['/a/*']}", "http: {paths: ['/a/b']}"),
        ("http: {paths: ['/a/*', '/b']}", "http: {paths: ['/a/*']}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], query: {x: [y]}}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], body_bytes: {min: 1KiB}}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], body: {$.a: [x]}}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], upgrade: websocket}"),
        ("http: {paths: [/a]}", "http: {paths: [/a], content_types: [a/b]}"),
        ("http: {paths: [/a]}", "http: {paths: [/a]}, llm: {models: [x]}"),
        ("http: {paths: [/a]}", "llm: {models: [x]}"),
        ("llm: {models: [x]}", "llm: {models: [y]}"),
        ("http: {methods: [GET]}", "http: {methods: [GET]}, roles: [ops]"),
        ("http: {hosts: [a.internal]}", "http: {hosts: ['a.internal:80']}"),
    ],
)
def test_a_narrower_deny_rule_makes_nothing_void(allow: str, deny: str) -> None:
    assert len(load_document(shadowing(allow, deny), "p.yaml").http_rules) == 2


def test_a_void_section_is_told_apart_from_its_neighbour() -> None:
    rule = "postgres: {commands: [select]}, http: {methods: [GET]}"
    (fault,) = faults_of(shadowing(rule, "http: {methods: [GET]}"))
    assert fault.startswith("8:62: rules[0].http: can never match")


@pytest.mark.parametrize("name", sorted(NEVER_SEEN | _NEVER))
def test_fields_that_the_gateway_takes_out_cannot_be_meant(name: str) -> None:
    for written in (name, name.replace("-", "_"), name.upper()):
        assert never_goes_on(written.lower())
        assert "never goes on to a target" in fault_of(f"{{headers: {{{written}: present}}}}")


def test_prefixes_that_the_gateway_takes_out_cannot_be_meant() -> None:
    assert NEVER_SEEN_PREFIXES == NEVER_PREFIXES


def test_warnings() -> None:
    text = f"""{HEAD}rules:
  - {{name: a, effect: allow, http: {{paths: ["/v1/*"], methods: [PURGE]}}}}
  - {{name: d, effect: deny, http: {{paths: ["/v2/*", "/v3/*", "/v3/**"]}}}}
"""
    (warning,) = load_document(text, "p.yaml").warnings
    assert str(warning) == (
        "p.yaml:9:44: rules[1].http.paths[0]: means one segment behind `/v2/`, and nothing below that; "
        "write `/v2/**` for all that is below"
    )
