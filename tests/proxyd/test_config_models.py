"""`models` and `store` in the configuration, and what the policy needs of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from policy.located_yaml import DocumentError
from proxyd.config import LoadedConfig
from proxyd.references import Material
from tests.proxyd.documents import POLICY, write_setup

NOW = 1_800_000_000.0
BUDGET = "budgets:\n  - {name: agents, per: subject, day: {%s}}\n"


def setup(tmp_path: Path, more: str = "", policy: str = "") -> Path:
    path = write_setup(tmp_path)
    path.write_text(path.read_text() + more)
    (tmp_path / "policy.yaml").write_text(POLICY + policy)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        Material.read(path, NOW)
    return [str(fault) for fault in caught.value.faults]


def warnings(path: Path) -> list[str]:
    return [str(warning) for warning in Material.read(path, NOW).warnings]


def test_prices(tmp_path: Path) -> None:
    path = setup(
        tmp_path,
        """\
models:
  prices:
    - {models: ["gpt-4o-mini*"], input: 0.15, output: 0.60}
    - {models: ["gpt-4o*", o1], input: 2.5, output: 10, cached_input: 1.25, cache_write: 2.5}
""",
    )
    table = LoadedConfig.read(path).config.models.table()
    mini, large = table.price("gpt-4o-mini-2024"), table.price("o1")
    assert mini is not None and large is not None
    assert (mini.input, mini.output, mini.cached_input, mini.cache_write) == (0.15, 0.60, 0.15, 0.30)
    assert (large.cached_input, large.cache_write) == (1.25, 2.5)
    assert table.price("o1-pro") is None


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ("[{models: [], input: 1, output: 1}]", "models.prices[0].models"),
        ("[{models: [''], input: 1, output: 1}]", "models.prices[0].models[0]"),
        ("[{models: [a], input: -1, output: 1}]", "models.prices[0].input"),
        ("[{models: [a], output: 1}]", "models.prices[0].input"),
        ("[{models: [a], input: 1, output: 1, per: token}]", "models.prices[0].per"),
        ("[{models: [a, a], input: 1, output: 1}]", "never counts"),
        (
            "[{models: ['gpt-*'], input: 1, output: 1}, {models: [gpt-4o], input: 2, output: 2}]",
            "never counts",
        ),
        ("[{models: ['*'], input: 1, output: 1}, {models: ['gpt-*'], input: 2, output: 2}]", "never counts"),
    ],
)
def test_prices_that_mean_nothing(tmp_path: Path, entries: str, words: str) -> None:
    with pytest.raises(DocumentError) as caught:
        LoadedConfig.read(setup(tmp_path, f"models: {{prices: {entries}}}\n"))
    assert any(words in str(fault) for fault in caught.value.faults)


def test_budgets_need_a_store(tmp_path: Path) -> None:
    (fault,) = faults(setup(tmp_path, policy=BUDGET % "requests: 5"))
    assert "no place to keep what has been spent" in fault and "store:" in fault
    assert warnings(setup(tmp_path, "store: {path: proxyd.db}\n", BUDGET % "requests: 5")) == []
    assert not (tmp_path / "proxyd.db").exists(), "checking makes nothing"


@pytest.mark.parametrize(
    ("policy", "place"),
    [
        (BUDGET % "cost_usd: 5.0", "budgets[0].day.cost_usd"),
        ("  - {name: dear, effect: deny, llm: {cost_usd: {min: 1.0}}}\n", "llm.cost_usd"),
    ],
)
def test_limits_of_cost_need_prices(tmp_path: Path, policy: str, place: str) -> None:
    store = "store: {path: proxyd.db}\n"
    text = POLICY.replace("\nmasks:", f"\n{policy}masks:") if policy.startswith("  ") else POLICY + policy
    path = setup(tmp_path, store)
    (tmp_path / "policy.yaml").write_text(text)
    (warning,) = [warning for warning in warnings(path) if "no model has a price" in warning]
    assert place in warning
    path.write_text(path.read_text() + "models: {prices: [{models: [a], input: 1, output: 1}]}\n")
    assert not [warning for warning in warnings(path) if "has a price" in warning]


@pytest.mark.parametrize(
    ("target", "rule", "is_told"),
    [
        ("", "llm: {models: [a]}", True),
        ("    api: openai\n", "llm: {models: [a]}", False),
        ("    api: openai\n", "llm: {models: [a]}, targets: {names: [shop]}", True),
        ("    api: openai\n", "llm: {models: [a]}, targets: {names: [gone]}", False),  # told in another way
        ("", "http: {methods: [GET]}", False),
    ],
)
def test_rules_about_models_need_targets_that_are_called_as_models(
    tmp_path: Path, target: str, rule: str, *, is_told: bool
) -> None:
    path = setup(tmp_path)
    listener = """
  - name: web
    protocol: http
    address: 127.0.0.1:0
    tls: {certificate: pki/server.crt, key: pki/server.key, client_ca: pki/ca.crt}
"""
    models = f"""
  - name: models
    protocol: http
    url: http://127.0.0.1:9000
{target}    logins: [{{name: default, none: true}}]
"""
    text = path.read_text().replace("\nlisteners:\n", f"\nlisteners:{listener}")
    path.write_text(text.replace("\ntargets:\n", f"\ntargets:{models}"))
    text = POLICY.replace("\nmasks:", f"\n  - {{name: about, effect: deny, {rule}}}\nmasks:")
    (tmp_path / "policy.yaml").write_text(text)
    told = [warning for warning in warnings(path) if "speak a model's API" in warning]
    assert bool(told) is is_told
    assert all("llm: none of its targets" in warning for warning in told)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("no directory", "is not a directory"), ("a directory", "no file"), ("nothing", "is not a directory")],
)
def test_places_where_no_store_can_be(tmp_path: Path, kind: str, words: str) -> None:
    path = setup(tmp_path, "store: {path: data/proxyd.db}\n")
    if kind == "no directory":
        (tmp_path / "data").touch()
    elif kind == "a directory":
        (tmp_path / "data" / "proxyd.db").mkdir(parents=True)
    (fault,) = faults(path)
    assert words in fault and "store.path" in fault
