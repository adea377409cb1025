"""The policy that the configuration names, with the keys of its masks, and whether the two speak of the same things.

Called by `proxyd.references.material`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from policy.document import PolicyDocument, load_document
from policy.facts import Target as TargetFacts
from policy.located_yaml import DocumentError, Located, parse
from policy.located_yaml import Path as DocumentPath
from policy.masking import MaskingKeyMissing
from policy.rules import Selector
from proxyd.config import read_text
from proxyd.references.findings import Findings
from proxyd.references.models import check_limits

SHORTEST_MASK_KEY_BYTES = 16


def read_keys(found: Findings) -> dict[str, bytes]:
    """The masks' keys by name, those that could be read."""
    keys: dict[str, bytes] = {}
    for name, source in found.config.masking.keys.items():
        path: DocumentPath = ("masking", "keys", name)
        value = found.secret(path, source)
        if value is None:
            continue
        keys[name] = value.reveal().encode()
        if len(keys[name]) < SHORTEST_MASK_KEY_BYTES:
            found.fault(
                path,
                f"shorter than {SHORTEST_MASK_KEY_BYTES} bytes: pseudonyms could be guessed back",
                "make a new one with: openssl rand -base64 32",
            )
    return keys


def read_policy(found: Findings, path: Path, keys: Mapping[str, bytes]) -> PolicyDocument | None:
    try:
        text = read_text(path)
        document = load_document(text, str(path))
    except DocumentError as error:
        found.faults.extend(error.faults)
        return None
    found.warnings.extend(document.warnings)
    located = parse(text, str(path))
    _targets(found, document, located)
    check_limits(found, document, located)
    # A key that is configured but could not be read is a fault already; here it is not missing.
    unread = dict.fromkeys(found.config.masking.keys, b"\0" * SHORTEST_MASK_KEY_BYTES)
    try:
        return document.with_keys({**unread, **keys})
    except MaskingKeyMissing as error:
        found.fault(("masking", "keys"), f"the policy {path} needs a key: {error}", "add it here")
        return None


def _masks(document: PolicyDocument) -> dict[str, Selector | None]:
    """Where each mask applies, by its name: one that is of several kinds has several entries."""
    found: dict[str, Selector | None] = {entry.mask.name: entry.targets for entry in document.masks}
    found.update((entry.mask.name, entry.targets) for entry in document.json_masks)
    found.update((entry.name, entry.targets) for entry in document.detect_masks)
    return found


def _targets(found: Findings, document: PolicyDocument, located: Located) -> None:
    """Targets and logins that nobody has are a slip of the pen more often than a plan."""
    targets = [
        (target, TargetFacts(target.name, target.protocol, dict(target.labels)))
        for target in found.config.targets
    ]
    nowhere = "none of the configured targets is meant"
    remedy = "correct it here, or add it to the targets of the configuration"
    places = {mask["name"]: index for index, mask in enumerate(located.data.get("masks") or ())}
    rules = {rule.order: rule.targets for rule in document.rules}
    rules.update((rule.order, rule.targets) for rule in document.ssh_rules)
    rules.update((rule.order, rule.targets) for rule in document.http_rules)
    selectors: list[tuple[DocumentPath, Selector | None]] = [
        *((("access", index), entry.targets) for index, entry in enumerate(document.access)),
        *((("rules", order), selector) for order, selector in rules.items()),
        *((("masks", places[name]), selector) for name, selector in _masks(document).items()),
        *((("budgets", index), budget.targets) for index, budget in enumerate(document.budgets)),
    ]
    for path, selector in selectors:
        if selector is not None and not any(selector.matches(known) for _, known in targets):
            found.warnings.append(located.fault((*path, "targets"), nowhere, remedy))
    for index, entry in enumerate(document.access):
        chosen = [target for target, known in targets if entry.targets.matches(known)]
        for login in sorted(entry.logins or ()) if chosen else ():
            if all(target.login(login) is None for target in chosen):
                message = f"none of its targets has the login `{login}`"
                found.warnings.append(located.fault(("access", index, "logins"), message, remedy))
