"""Indexes made useless, or as eager as can be: with either, the judgement must be the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import policy.conditions.bundles
import policy.document_checks
import policy.http.evaluate
import policy.http_rules.index
import policy.narrowing
import policy.sql_index
import policy.ssh_rules.index
from policy.conditions.bundles import Bundle
from policy.narrowing import Narrowing


@contextmanager
def every_rule() -> Iterator[None]:
    """Every rule is looked at by itself."""

    def rows(narrowing: Narrowing[Any], shown: object) -> Iterator[Any]:
        pending = [narrowing._root]
        while pending:
            node = pending.pop()
            if isinstance(node, tuple):
                yield node
            else:
                pending.extend((*node.children, node.rest))

    def alone(rules: Iterable[Any]) -> tuple[Bundle[Any], ...]:
        return tuple(Bundle((rule,)) for rule in rules)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Narrowing, "rows", rows)
        for module in (policy.sql_index, policy.ssh_rules.index, policy.http_rules.index):
            patch.setattr(module, "bundled", alone)
        patch.setattr(policy.http_rules.index, "WIDE", 10**9)
        yield


@contextmanager
def eager() -> Iterator[None]:
    """Two rules are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.narrowing, "FEW", 1)
        patch.setattr(policy.conditions.bundles, "FEW", 1)
        patch.setattr(policy.http_rules.index, "WIDE", 1)
        yield


@contextmanager
def without_near_misses() -> Iterator[None]:
    """Nothing is said of rules that nearly allow a request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.http.evaluate, "near_misses", lambda rules, asked: [])
        yield


@contextmanager
def void_rules_load() -> Iterator[None]:
    """Rules that make each other void are no fault: a document drawn at random has them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(policy.document_checks, "shadowed", lambda rules, located: ())
        yield
