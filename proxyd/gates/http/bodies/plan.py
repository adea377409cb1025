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
from functools import lru_cache, partial

from policy.json_masking import json_text, stand_ins, text_stand_in
from policy.json_paths import JsonPath, PathSet, PathState
from policy.masking import REDACTED, Mask
from protocols.errors import RemoteProtocolError
from protocols.http import json_grammar as grammar
from protocols.http.json_grammar import NESTED
from protocols.http.json_nodes import SETTLED, JsonNode, Rewrite, Rewriting
from protocols.http.json_runs import Run, runs_of
from protocols.http.json_stream import JsonRewriter
from proxyd.gates.http.bodies.detecting import ValueDetection
from proxyd.gates.http.bodies.interfaces import BodyLimits, BodyMasks, Detectors
from proxyd.gates.http.bodies.json_detecting import RunDetection
from proxyd.gates.http.bodies.long_strings import LongString

MAX_NODES = 4096
MAX_NAME_CHARACTERS = 1024  # of a field outside of JSON
_escaped = re.compile(r'["\\/\x00-\x1f]')  # what JSON may write as an escape other than \u
_keyed = re.compile(r"[:=<>{}]")
_no_name = re.compile(r'["<>{}\x00-\x1f]')
_BLANKS = " \t\r\n\ufeff"


class Plan:
    """The masks of one direction, ready for use. guard: finds names of masked fields in text that is no JSON; None
    when no name can be told, because a path ends in `*`, an index or `$`: then any text may hold what is masked.
    has_places: a path ends in an index.
    """

    def __init__(
        self, json_masks: Sequence[tuple[JsonPath, Mask]], detectors: Detectors | None, limits: BodyLimits
    ) -> None:
        self.limits = limits
        self.masks = tuple(mask for _, mask in json_masks)
        self.detectors = detectors
        self.guard = _guard([path.last_name for path, _ in json_masks])
        self._words = {path.last_name.casefold() for path, _ in json_masks if path.last_name is not None}
        self._are_plain = not any(_escaped.search(word) for word in self._words)
        self.has_places = any(path.segments and path.segments[-1].index is not None for path, _ in json_masks)
        self._guards = [(_guard([path.last_name]), mask) for path, mask in json_masks]
        self._paths = PathSet([path for path, _ in json_masks], ignore_case=True)
        self._nodes: dict[tuple[PathState, Mask | None], JsonNode] = {}
        self._detecting: Rewrite | None = None
        self.detection: ValueDetection | None = None
        self.runs: RunDetection | None = None
        if detectors is not None:
            self.detection = ValueDetection(detectors)
            self.runs = RunDetection(self.detection)
            self._detecting = Rewrite(
                string=self.detection.token,
                number=self.detection.number,
                only_unclean=True,
                long_string=partial(LongString, detectors),
            )
        self._rewrites = {id(mask): self._rewrite(mask) for mask in self.masks}
        self.root = self.node(self._paths.root, None)

    @property
    def has_paths(self) -> bool:
        return bool(self.masks)

    def rewriter(self, counts: Counter[str], node: JsonNode | None = None) -> JsonRewriter:
        """For one document. node: where it stands; None: it is the body."""
        return JsonRewriter(
            self.root if node is None else node,
            depth=self.limits.depth,
            held_bytes=self.limits.held_bytes,
            name=None if self.detection is None else self.detection.token,
            clean=None if self.runs is None else self.runs.cleaned,
            counts=counts,
        )

    @property
    def lines(self) -> Run | None:
        """Passes over lines that are documents, where nothing but detectors looks at them."""
        return runs_of(self.root).lines if self.limits.depth >= NESTED else None

    def whole(self, text: str, counts: Counter[str]) -> str | None:
        """What becomes of a small document that nothing but detectors looks at; None where it takes a rewriter."""
        if self.has_paths or self.runs is None or self.limits.depth < NESTED or not text.isascii():
            return None
        data = text.encode()
        found = grammar.whole().match(data, 0, len(data))
        if found is None or found.end() != len(data):
            return None
        masked = self.runs.cleaned(data, counts)
        return text if masked is data else masked.decode()

    def cleaned(self, run: bytes, counts: Counter[str]) -> bytes:
        """What detectors make of what such a run has passed over."""
        return run if self.runs is None else self.runs.cleaned(run, counts)

    def names_masked(self, text: str, *, may_go_on: bool = False) -> bool:
        """Does a text that is no JSON name a field that is masked? may_go_on: a name at its very end may be longer."""
        if not self.has_paths or self.guard is None:
            return self.has_paths
        if not self._holds_word(text):
            return False
        found = self.guard.search(text)
        return found is not None and not (may_go_on and found.end() == len(text))

    def may_mask(self, document: str) -> bool:
        """May the text of a JSON document hold a field that is masked? False only if nothing in it can be one."""
        if not self.has_paths or self.guard is None or not self._are_plain:
            return self.has_paths
        return "\\u" in document or self._holds_word(document)

    def _holds_word(self, text: str) -> bool:
        folded = text.casefold()
        return any(word in folded for word in self._words)

    def keys_masked(self, text: str) -> bool:
        """Does a text hold a field that is masked, by its name and a value (`email: x`, `"email":`, `<email>`)? For
        places where a name alone may stand, or a whole document that was put where it does not belong.
        """
        return self.names_masked(text) and (begins_document(text) or _keyed.search(text) is not None)

    def is_name(self, text: str) -> bool:
        """May a text be the name of a field? Under masks by path, nothing that a document might be is."""
        if len(text) > MAX_NAME_CHARACTERS:
            return False
        return not self.has_paths or (_no_name.search(text) is None and not self.keys_masked(text))

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
        if mask is None and state.is_dead and self._detecting is None:
            return SETTLED
        rewrite = self._detecting if mask is None else self._rewrites[id(mask)]
        return _MaskNode(self, state, mask, rewrite)

    def mask_at(self, readings: Iterable[Sequence[str | int]]) -> Mask | None:
        """The mask on a value outside of JSON. readings: the places where its name may put it, as steps from the root;
        the one that conceals most in any of them.
        """
        nodes = map(self._at, readings)
        masks = [node.mask for node in nodes if isinstance(node, _MaskNode) and node.mask is not None]
        return min(masks, key=_by_concealment, default=None)

    def mask_named_in(self, title: str) -> Mask | None:
        """The mask on a field that `title` names, alone or among other words."""
        masks = [mask for guard, mask in self._guards if guard is not None and guard.search(title)]
        return min(masks, key=_by_concealment, default=None)

    def field_mask(self, readings: Iterable[Sequence[str | int]], title: str) -> Mask | None:
        """The more concealing of both."""
        masks = [mask for mask in (self.mask_at(readings), self.mask_named_in(title)) if mask is not None]
        return min(masks, key=_by_concealment, default=None)

    def field(
        self, readings: Sequence[Sequence[str | int]], text: str, counts: Counter[str], *, title: str
    ) -> str:
        """What becomes of a value outside of JSON. Raises MaskingError."""
        mask = self.field_mask(readings, title)
        return masked_field(mask, text, counts) if mask else self.open_field(readings, text, counts, title)

    def open_field(
        self, readings: Sequence[Sequence[str | int]], text: str, counts: Counter[str], title: str
    ) -> str:
        """The same where no mask is on the value itself: it may be a document."""
        if begins_document(text):
            for node in map(self._at, readings):
                if (
                    node.document is not None
                    and (token := self.document(node, text, counts, title)) is not None
                ):
                    return str(json.loads(token))
        return self.detected(text, counts, title)

    def _at(self, steps: Sequence[str | int]) -> JsonNode:
        node = self.root
        for step in steps:
            node = node.element(step) if isinstance(step, int) else node.member(step)
        return node

    def _rewrite(self, mask: Mask) -> Rewrite:
        """What masks put in is text that goes through detectors, as all text does."""
        becomes = stand_ins(mask)
        string, number = becomes.string, becomes.number
        return Rewrite(
            name=mask.name,
            string=None if isinstance(string, str) else self._counted(mask, string),
            constant_string=self._clean_token(string) if isinstance(string, str) else None,
            number=self._counted(mask, number),
            boolean=becomes.boolean.encode(),
            object=None if becomes.object is None else becomes.object.encode(),
            array=None if becomes.array is None else becomes.array.encode(),
        )

    def _counted(self, mask: Mask, becomes: str | Callable[[str], str]) -> Rewriting:
        if isinstance(becomes, str):
            constant = self._clean_token(becomes)

            def replace(text: str, counts: Counter[str], name: str) -> bytes | None:
                counts[mask.name] += 1
                return constant

            return replace

        def rewrite(text: str, counts: Counter[str], name: str) -> bytes | None:
            counts[mask.name] += 1
            return self._clean_token(becomes(text))

        return rewrite

    def _clean_token(self, token: str) -> bytes:
        if self.detection is None:
            return token.encode()
        if token.startswith('"'):
            return self.detection.token(str(json.loads(token)), Counter(), "") or token.encode()
        return self.detection.number(token, Counter(), "") or token.encode()

    # --- what becomes of text ---------------------------------------------------------------------------------

    def detected(self, text: str, counts: Counter[str], name: str = "") -> str:
        """`text` with what detectors find in it replaced. name: of the value that it is, "" for none."""
        return text if self.detection is None else self.detection.replaced(text, counts, name)

    def document(self, node: JsonNode, text: str, counts: Counter[str], name: str) -> bytes | None:
        """What becomes of a string at `node` that may be a JSON document: the document masked as if it stood there.

        One that begins like an object or array, does not parse and names a masked field is hidden whole.
        """
        if begins_document(text) and self.may_mask(text):
            found: Counter[str] = Counter()
            rewriter = self.rewriter(found, node)
            try:
                raw = text.lstrip("\ufeff").encode("utf-8", "surrogatepass")
                masked = rewriter.feed(raw) + rewriter.finish()
            except RemoteProtocolError:
                if not text.lstrip(_BLANKS).startswith('"') and self.names_masked(text):
                    counts[self.masks[0].name] += 1
                    return json_text(REDACTED).encode()
            else:
                counts.update(found)
                return None if masked == raw else json_text(masked.decode()).encode()
        return None if self.detection is None else self.detection.token(text, counts, name)


class _MaskNode(JsonNode):
    __slots__ = ("_plan", "_state", "mask")

    def __init__(self, plan: Plan, state: PathState, mask: Mask | None, rewrite: Rewrite | None) -> None:
        document: Rewriting | None = None
        if mask is None and not state.is_dead:

            def document(text: str, counts: Counter[str], name: str) -> bytes | None:
                return plan.document(self, text, counts, name)

        super().__init__(rewrite, document=document, is_settled=state.is_dead)
        self._plan = plan
        self._state = state
        self.mask = mask

    def member(self, name: str) -> JsonNode:
        return self._plan.node(self._state.member(name), self.mask)

    def element(self, index: int) -> JsonNode:
        return self._plan.node(self._state.element(index), self.mask)

    @property
    def names(self) -> frozenset[str]:
        return self._state.names

    @property
    def other(self) -> JsonNode:
        return self._plan.node(self._state.other, self.mask)

    @property
    def any_element(self) -> JsonNode | None:
        state = self._state.any_element
        return None if state is None else self._plan.node(state, self.mask)


def plan_of(masks: BodyMasks, limits: BodyLimits) -> Plan:
    """The plan of these masks, made once for all masks that are the same."""
    return _plan(tuple(masks.json), masks.detectors, limits)


@lru_cache(256)
def _plan(
    json_masks: tuple[tuple[JsonPath, Mask], ...], detectors: Detectors | None, limits: BodyLimits
) -> Plan:
    return Plan(json_masks, detectors, limits)


def _guard(names: list[str | None]) -> re.Pattern[str] | None:
    if None in names:
        return None
    known = "|".join(re.escape(name) for name in names if name is not None)
    return re.compile(rf"(?<!\w)(?:{known})(?!\w)", re.IGNORECASE)


def _by_concealment(mask: Mask) -> int:
    return mask.concealment


def begins_document(text: str) -> bool:
    """May a text be a JSON document (a string that holds one included)?"""
    return text.lstrip(_BLANKS)[:1] in ("{", "[", '"')


def masked_field(mask: Mask, text: str, counts: Counter[str]) -> str:
    """A value that has no kind, masked. Raises MaskingError."""
    counts[mask.name] += 1
    return text_stand_in(mask, text)
