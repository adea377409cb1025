"""What the masks of one direction mean for the places of a JSON document, worked out once and used for every body.

Owns the nodes that the JSON rewriter walks: a place on the paths of the masks, with the mask that applies there. Where
several do, the one that conceals most does. A string that holds a JSON document is treated as if the document stood
there itself. Called by the transformers; a plan keeps nothing of any body.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from policy.json_masking import json_text, stand_ins, text_stand_in
from policy.json_paths import PathSet, PathState
from policy.masking import REDACTED, Mask
from protocols.errors import RemoteProtocolError
from protocols.http.json_nodes import SETTLED, JsonNode, Rewrite, Rewriting
from protocols.http.json_stream import JsonRewriter
from proxyd.gates.http.bodies.interfaces import BodyLimits, BodyMasks

MAX_NODES = 4096
_SHORTEST_NUMBER = 7  # digits; below that there is nothing to detect in a number
_BLANKS = " \t\r\n\ufeff"


class Plan:
    """The masks of one direction, ready for use. guard: finds names of masked fields in text that is no JSON; None
    when no name can be told, because a path ends in `*`, an index or `$`: then any text may hold what is masked.
    """

    def __init__(self, masks: BodyMasks, limits: BodyLimits) -> None:
        self.limits = limits
        self.masks = tuple(mask for _, mask in masks.json)
        self.detectors = masks.detectors
        self.guard = _guard([path.last_name for path, _ in masks.json])
        self._paths = PathSet([path for path, _ in masks.json], ignore_case=True)
        self._nodes: dict[tuple[PathState, Mask | None], JsonNode] = {}
        self._rewrites = {id(mask): _rewrite(mask) for mask in self.masks}
        self._detection = None
        if masks.detectors is not None:
            self._detection = Rewrite(string=self._detected, number=self._detected_number, only_unclean=True)
        self.root = self.node(self._paths.root, None)

    @property
    def has_paths(self) -> bool:
        return bool(self.masks)

    def rewriter(self, counts: Counter[str], node: JsonNode | None = None) -> JsonRewriter:
        """For one document. node: where it stands; None: it is the body."""
        is_detecting = self.detectors is not None
        return JsonRewriter(
            self.root if node is None else node,
            depth=self.limits.depth,
            held_bytes=self.limits.held_bytes,
            name=self._detected if is_detecting else None,
            is_clean=self._is_clean if is_detecting else None,
            counts=counts,
        )

    def names_masked(self, text: str) -> bool:
        """Does a text that is no JSON name a field that is masked?"""
        return self.has_paths and (self.guard is None or self.guard.search(text) is not None)

    # --- nodes ------------------------------------------------------------------------------------------------

    def node(self, state: PathState, inherited: Mask | None) -> JsonNode:
        """inherited: the mask of a node above, which goes on for all that is in it."""
        mask = inherited
        for number in state.matches:
            candidate = self.masks[number]
            if mask is None or candidate.concealment < mask.concealment:
                mask = candidate
        key = (state, mask)
        known = self._nodes.get(key)
        if known is None:
            if len(self._nodes) >= MAX_NODES:
                self._nodes.clear()
            known = self._nodes[key] = self._made(state, mask)
        return known

    def _made(self, state: PathState, mask: Mask | None) -> JsonNode:
        if mask is None and state.is_dead and self._detection is None:
            return SETTLED
        rewrite = self._detection if mask is None else self._rewrites[id(mask)]
        return _MaskNode(self, state, mask, rewrite)

    def field(self, readings: Iterable[Sequence[str | int]], text: str, counts: Counter[str]) -> str:
        """What becomes of a value outside of JSON. readings: the places where its name may put it, as steps from the
        root; what conceals most in any of them is taken. Raises MaskingError.
        """
        nodes = [self._at(steps) for steps in readings]
        masks = [node.mask for node in nodes if isinstance(node, _MaskNode) and node.mask is not None]
        if masks:
            mask = min(masks, key=_by_concealment)
            counts[mask.name] += 1
            return text_stand_in(mask, text)
        for node in nodes:
            if node.document is not None and (token := self.document(node, text, counts)) is not None:
                return str(json.loads(token))
        return self.detected(text, counts)

    def _at(self, steps: Sequence[str | int]) -> JsonNode:
        node = self.root
        for step in steps:
            node = node.element(step) if isinstance(step, int) else node.member(step)
        return node

    # --- what becomes of text ---------------------------------------------------------------------------------

    def detected(self, text: str, counts: Counter[str]) -> str:
        """`text` with what detectors find in it replaced."""
        if self.detectors is None:
            return text
        replaced, found = self.detectors.replace(text)
        counts.update(found)
        return replaced

    def _detected(self, text: str, counts: Counter[str]) -> bytes | None:
        replaced = self.detected(text, counts)
        return None if replaced == text else json_text(replaced).encode()

    def _detected_number(self, text: str, counts: Counter[str]) -> bytes | None:
        return self._detected(text, counts) if len(text) >= _SHORTEST_NUMBER else None

    def _is_clean(self, data: bytes) -> bool:
        return self.detectors is None or not self.detectors.replace(data.decode())[1]

    def document(self, node: JsonNode, text: str, counts: Counter[str]) -> bytes | None:
        """What becomes of a string at `node` that may be a JSON document: the document masked as if it stood there.

        One that begins like an object or array, does not parse and names a masked field is hidden whole.
        """
        begins = text.lstrip(_BLANKS)[:1]
        if begins and begins in '{["':
            found: Counter[str] = Counter()
            rewriter = self.rewriter(found, node)
            try:
                raw = text.lstrip("\ufeff").encode("utf-8", "surrogatepass")
                masked = rewriter.feed(raw) + rewriter.finish()
            except RemoteProtocolError:
                if begins != '"' and self.names_masked(text):
                    counts[self.masks[0].name] += 1
                    return json_text(REDACTED).encode()
            else:
                counts.update(found)
                return None if masked == raw else json_text(masked.decode()).encode()
        return self._detected(text, counts)


class _MaskNode(JsonNode):
    __slots__ = ("_plan", "_state", "mask")

    def __init__(self, plan: Plan, state: PathState, mask: Mask | None, rewrite: Rewrite | None) -> None:
        document: Rewriting | None = None
        if mask is None and not state.is_dead:

            def document(text: str, counts: Counter[str]) -> bytes | None:
                return plan.document(self, text, counts)

        super().__init__(rewrite, document=document, is_settled=state.is_dead, names=state.names)
        self._plan = plan
        self._state = state
        self.mask = mask

    def member(self, name: str) -> JsonNode:
        return self._plan.node(self._state.member(name), self.mask)

    def element(self, index: int) -> JsonNode:
        return self._plan.node(self._state.element(index), self.mask)

    @property
    def other(self) -> JsonNode:
        return self._plan.node(self._state.other, self.mask)

    @property
    def any_element(self) -> JsonNode | None:
        state = self._state.any_element
        return None if state is None else self._plan.node(state, self.mask)


@lru_cache(256)
def plan_of(masks: BodyMasks, limits: BodyLimits) -> Plan:
    """The plan of these masks. They are looked up by identity, so their owner keeps them."""
    return Plan(masks, limits)


def _rewrite(mask: Mask) -> Rewrite:
    becomes = stand_ins(mask)
    string, number = becomes.string, becomes.number
    return Rewrite(
        name=mask.name,
        string=None if isinstance(string, str) else _counted(mask, string),
        constant_string=string.encode() if isinstance(string, str) else None,
        number=_counted(mask, number),
        boolean=becomes.boolean.encode(),
        object=None if becomes.object is None else becomes.object.encode(),
        array=None if becomes.array is None else becomes.array.encode(),
    )


def _counted(mask: Mask, becomes: str | Callable[[str], str]) -> Rewriting:
    if isinstance(becomes, str):
        constant = becomes.encode()

        def replace(text: str, counts: Counter[str]) -> bytes | None:
            counts[mask.name] += 1
            return constant

        return replace

    def rewrite(text: str, counts: Counter[str]) -> bytes | None:
        counts[mask.name] += 1
        return becomes(text).encode()

    return rewrite


def _guard(names: list[str | None]) -> re.Pattern[str] | None:
    if None in names:
        return None
    known = "|".join(re.escape(name) for name in names if name is not None)
    return re.compile(rf"(?<!\w)(?:{known})(?!\w)", re.IGNORECASE)


def _by_concealment(mask: Mask) -> int:
    return mask.concealment
