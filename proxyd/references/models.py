"""What limits models: whether budgets have a store to be kept in, and limits of cost have prices to count by.

Called by `proxyd.references.material` and `proxyd.references.policy`.
"""

from __future__ import annotations

import os

from policy.document import PolicyDocument
from policy.facts import Target
from policy.located_yaml import Located
from policy.located_yaml import Path as DocumentPath
from proxyd.config.http_target import HttpTarget
from proxyd.references.findings import Findings


def check_store(found: Findings) -> None:
    """The file need not be there yet; its directory has to be."""
    store = found.config.store
    if store is None:
        return
    path: DocumentPath = ("store", "path")
    directory = store.path.parent
    if store.path.exists() and not store.path.is_file():
        found.fault(path, f"{store.path} is there, and no file", "name a path that is free")
    elif not directory.is_dir():
        found.fault(
            path, f"{directory} is not a directory", "make it, and give it to the account that runs proxyd"
        )
    elif not os.access(directory, os.W_OK | os.X_OK):
        # SQLite keeps two more files beside its own.
        found.fault(
            path, f"{directory} is not writable by this account", "give it to the account that runs proxyd"
        )
    elif store.path.exists() and not os.access(store.path, os.R_OK | os.W_OK):
        found.fault(
            path, f"{store.path} is not writable by this account", "give it to the account that runs proxyd"
        )


def check_limits(found: Findings, document: PolicyDocument, located: Located) -> None:
    if document.budgets and found.config.store is None:
        found.fault(
            ("policy",),
            "the policy has budgets, and there is no place to keep what has been spent",
            "add `store` at the top, as in `store: {path: /var/lib/proxyd/proxyd.db}`",
        )
    _rules_without_models(found, document, located)
    if found.config.models.prices:
        return
    priced: list[DocumentPath] = [
        ("budgets", index, "day", "cost_usd")
        for index, budget in enumerate(document.budgets)
        if budget.day.cost_usd is not None
    ]
    priced += [
        ("rules", rule.order, "llm", "cost_usd")
        for rule in document.http_rules
        if rule.llm is not None and rule.llm.cost_usd is not None
    ]
    for path in priced:
        found.warnings.append(
            located.fault(
                path,
                "no model has a price, so no call has a known cost, and what limits cost refuses every call",
                "add `models: {prices: [...]}` to the configuration",
            )
        )


def _rules_without_models(found: Findings, document: PolicyDocument, located: Located) -> None:
    """Forgetting `api` would leave a deny rule about models without effect, and nobody would notice."""
    targets = [
        (
            Target(target.name, target.protocol, dict(target.labels)),
            isinstance(target, HttpTarget) and target.api is not None,
        )
        for target in found.config.targets
    ]
    for rule in document.http_rules:
        meant = [
            has_api for target, has_api in targets if rule.targets is None or rule.targets.matches(target)
        ]
        if rule.llm is not None and meant and not any(meant):
            found.warnings.append(
                located.fault(
                    ("rules", rule.order, "llm"),
                    "none of its targets is known to speak a model's API, so the rule means no request",
                    "add `api: openai` or `api: anthropic` to the target in the configuration",
                )
            )
