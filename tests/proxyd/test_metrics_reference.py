"""docs/metrics.md names every metric that there is, with its labels, and no other."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from proxyd.metrics import HandshakeFailure, Metrics, SessionOutcome, TokenNumbers

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text()
ROWS = dict(re.findall(r"^\| `(proxyd_\w+)` \|([^|]*)\|", PAGE, re.MULTILINE))


def everything() -> Metrics:
    """With a sample of each family, so that each label is there."""
    metrics = Metrics()
    metrics.set_rules(["rule"])
    metrics.session_opened("a", "http")
    metrics.session_ended("a", "http", SessionOutcome.IDLE)
    metrics.connection_opened("a")
    metrics.handshake_failed("a", HandshakeFailure.TLS)
    metrics.operations("http").allowed += 1
    metrics.denied_by("rule")
    metrics.masked({"rule": 1, "email": 1})
    metrics.catalog_loaded("shop", is_success=True)
    metrics.issuer("company").accepted += 1
    metrics.watch_tokens("api", "reader", TokenNumbers())
    metrics.model("gpt").add(1, 2, 0.5)
    return metrics


def test_every_metric_is_on_the_page_with_its_labels() -> None:
    shown: dict[str, set[str]] = {}
    for line in everything().render().decode().splitlines():
        sample = re.fullmatch(r"(proxyd_\w+)(?:\{(.*)\})? \S+", line)
        if sample is not None and not sample[1].endswith("_created"):
            labels = set(re.findall(r'(\w+)="', sample[2] or ""))
            shown.setdefault(sample[1], set()).update(labels)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in ROWS.items()}
    assert told == shown


def test_every_outcome_and_reason_is_on_the_page() -> None:
    for each in (*SessionOutcome, *HandshakeFailure):
        assert f"`{each.value}`" in PAGE, each


def test_alerts_ask_for_metrics_that_there_are() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    rules = yaml.safe_load(block)["groups"][0]["rules"]
    for rule in rules:
        names = re.findall(r"proxyd_\w+", rule["expr"])
        assert names
        assert set(names) <= set(ROWS), rule["alert"]
