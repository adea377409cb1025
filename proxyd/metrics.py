"""The daemon's numbers: written as plain integers by the event loop, read as Prometheus text when asked.

Every session runs on one thread, so counting is `metrics.rows_masked += 1`: no lock, no label lookup (a
Prometheus child takes a lock on each `inc`, about a microsecond, and the relay counts on every batch). A
custom collector turns the integers into metric families at scrape time. Labels come from the configuration,
the policy and the enumerations here, never from what a client sends: the number of series is bounded by what
the operator wrote.
"""

from __future__ import annotations

import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum

from prometheus_client import CollectorRegistry, GCCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

_NO_RULE = "(no rule allows it)"
_OTHER_RULE = "(other)"


class HandshakeFailure(Enum):
    """Why a connection never became a session."""

    CONNECTION_LIMIT = "connection_limit"  # the listener is full
    SUBJECT_LIMIT = "subject_limit"  # the subject has all the sessions it may have
    TIMEOUT = "timeout"
    PROTOCOL = "protocol"  # not a startup that we understand
    TLS = "tls"
    IDENTITY = "identity"  # the certificate or token gives no subject
    DISCOVERY = "discovery"  # it only asked where tokens come from (OAUTHBEARER), and will come again
    NOT_ADMITTED = "not_admitted"  # unknown target or login, or the policy gives no access
    TARGET = "target"  # the target could not be reached or refused us
    DISCONNECTED = "disconnected"
    TAPE = "tape"
    ENDED = "ended"  # by an administrator or a drain, before it was open
    INTERNAL = "internal"


class SessionOutcome(Enum):
    """How a session ended."""

    CLIENT_CLOSED = "client_closed"
    TARGET_CLOSED = "target_closed"
    IDLE = "idle"
    MAX_AGE = "max_age"
    LIMIT = "limit"  # statements or rows of the access entry are used up
    PROTOCOL = "protocol"
    TAPE = "tape"
    DRAINED = "drained"
    ENDED = "ended"  # by an administrator
    REVOKED = "revoked"  # identity or access taken away by a reload
    FAILED = "failed"  # an error of ours


@dataclass(slots=True)
class Operations:
    """How many operations of one protocol (statements, commands, requests) were decided how. Plain integers too."""

    allowed: int = 0
    denied: int = 0
    held: int = 0


@dataclass(slots=True)
class IssuerNumbers:
    """What is known of one issuer of tokens. `last_success`: Unix seconds, 0 for never. Plain values too."""

    is_up: bool = False
    keys: int = 0
    last_success: float = 0.0
    successes: int = 0
    failures: int = 0
    accepted: int = 0
    refused: int = 0


@dataclass(slots=True)
class ModelNumbers:
    """What answers of the models behind one target came to, estimated where they do not say."""

    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0

    def add(self, input_tokens: int, output_tokens: int, cost_usd: float) -> None:
        self.calls += 1
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost_usd += cost_usd


@dataclass(slots=True)
class TokenNumbers:
    """Of the tokens that the gateway fetches for one login of a target. `ends_at`: Unix seconds, 0 for none yet."""

    successes: int = 0
    failures: int = 0
    ends_at: float = 0.0


class Metrics:
    """Counters of one daemon. Attributes without a method are plain integers: add to them directly."""

    def __init__(self, version: str = "", log_lines_lost: Callable[[], int] = lambda: 0) -> None:
        self.version = version
        self._log_lines_lost = log_lines_lost
        self.results_masked = 0
        self.rows_masked = 0
        # By the name of the detector, which the policy or the gateway gives.
        self.detected: Counter[str] = Counter()
        self.bytes_from_clients = 0
        self.bytes_to_clients = 0
        self.bytes_from_targets = 0
        self.bytes_to_targets = 0
        self.tape_bytes = 0
        self.tape_errors = 0
        self.cancels = 0
        self.session_crashes = 0
        self.tokens_refused = 0  # before it was known of which issuer they are
        self.policy_loaded_at = 0.0
        self.is_draining = False
        self._operations: dict[str, Operations] = {}
        self._masked: Counter[str] = Counter()
        self._issuers: dict[str, IssuerNumbers] = {}
        self._models: dict[str, ModelNumbers] = {}
        self._target_tokens: dict[tuple[str, str], TokenNumbers] = {}
        self._open: Counter[tuple[str, str]] = Counter()
        self._connections: Counter[str] = Counter()
        self._outcomes: Counter[str] = Counter()
        self._failures: Counter[tuple[str, str]] = Counter()
        self._denials: Counter[str] = Counter()
        self._catalogs: Counter[tuple[str, str]] = Counter()
        self._reloads: Counter[str] = Counter({"applied": 0, "rejected": 0})
        self._rules: frozenset[str] = frozenset()
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Numbers(self))
        ProcessCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def set_rules(self, names: Iterable[str]) -> None:
        """Names that may become a label of the denials: those of the policy now in force."""
        self._rules = frozenset(names)

    def session_opened(self, listener: str, protocol: str) -> None:
        self._open[listener, protocol] += 1

    def session_ended(self, listener: str, protocol: str, outcome: SessionOutcome) -> None:
        self._open[listener, protocol] -= 1
        self._outcomes[outcome.value] += 1

    def connection_opened(self, listener: str) -> None:
        self._connections[listener] += 1

    def connection_closed(self, listener: str) -> None:
        self._connections[listener] -= 1

    def handshake_failed(self, listener: str, reason: HandshakeFailure) -> None:
        self._failures[listener, reason.value] += 1

    def operations(self, protocol: str) -> Operations:
        """Where the operations of `protocol` are counted. A session asks once and keeps it."""
        return self._operations.setdefault(protocol, Operations())

    def issuer(self, name: str) -> IssuerNumbers:
        """Where the numbers of one issuer are kept, from its configuration on."""
        return self._issuers.setdefault(name, IssuerNumbers())

    def keep_issuers(self, names: Iterable[str]) -> None:
        """Forget every issuer but these."""
        kept = set(names)
        self._issuers = {name: numbers for name, numbers in self._issuers.items() if name in kept}

    def model(self, target: str) -> ModelNumbers:
        """Where the numbers of the models behind a target are kept."""
        return self._models.setdefault(target, ModelNumbers())

    def forget_tokens(self) -> None:
        """The logins are about to be others: `watch_tokens` says which."""
        self._target_tokens.clear()

    def watch_tokens(self, target: str, login: str, numbers: TokenNumbers) -> None:
        """Show the numbers of a login whose tokens the gateway fetches."""
        self._target_tokens[target, login] = numbers

    def masked(self, counts: Mapping[str, int]) -> None:
        """What was replaced in HTTP bodies, by the name of the mask or the kind that a detector found."""
        for name, number in counts.items():
            if name in self._rules:
                self._masked[name] += number
            else:
                self.detected[name] += number

    def denied_by(self, rule: str) -> None:
        """Count a denial under its rule's name ("" when no rule allows it)."""
        if rule not in self._rules:
            rule = _OTHER_RULE if rule else _NO_RULE
        self._denials[rule] += 1

    def catalog_loaded(self, target: str, *, is_success: bool) -> None:
        self._catalogs[target, "loaded" if is_success else "failed"] += 1

    def reloaded(self, *, is_success: bool, now: float) -> None:
        """`now` in Unix seconds."""
        self._reloads["applied" if is_success else "rejected"] += 1
        if is_success:
            self.policy_loaded_at = now

    def render(self) -> bytes:
        """Everything in the Prometheus text format, version 0.0.4."""
        return generate_latest(self._registry)

    def families(self) -> Iterator[Metric]:
        yield _gauge(
            "proxyd_build_info",
            "The version that runs.",
            ("version", "python"),
            {(self.version, platform.python_version()): 1},
        )
        yield _gauge(
            "proxyd_draining", "1 while the daemon is shutting down.", (), {(): int(self.is_draining)}
        )
        yield _gauge(
            "proxyd_connections_open",
            "Connections accepted and not yet closed.",
            ("listener",),
            {(name,): count for name, count in self._connections.items()},
        )
        yield _gauge(
            "proxyd_sessions_open", "Sessions past the handshake.", ("listener", "protocol"), self._open
        )
        yield _counter(
            "proxyd_sessions",
            "Sessions that ended, by how.",
            ("outcome",),
            {(name,): count for name, count in self._outcomes.items()},
        )
        yield _counter(
            "proxyd_handshake_failures",
            "Connections that never became a session, by reason.",
            ("listener", "reason"),
            self._failures,
        )
        yield _counter(
            "proxyd_operations",
            "Statements, commands and requests judged, by effect.",
            ("protocol", "effect"),
            {
                (protocol, effect): count
                for protocol, counts in self._operations.items()
                for effect, count in (
                    ("allow", counts.allowed),
                    ("deny", counts.denied),
                    ("hold", counts.held),
                )
            },
        )
        yield _counter(
            "proxyd_denials",
            "Denials by the rule that made them.",
            ("rule",),
            {(name,): count for name, count in self._denials.items()},
        )
        yield _counter(
            "proxyd_masked_results", "Results with at least one masked column.", (), {(): self.results_masked}
        )
        yield _counter(
            "proxyd_masked_values",
            "Values in HTTP bodies rewritten by a mask.",
            ("mask",),
            {(name,): number for name, number in self._masked.items()},
        )
        yield _counter("proxyd_masked_rows", "Rows rewritten by a mask.", (), {(): self.rows_masked})
        yield _counter(
            "proxyd_detected",
            "Values that detectors found and replaced, by detector.",
            ("kind",),
            {(kind,): count for kind, count in self.detected.items()},
        )
        yield _counter(
            "proxyd_bytes",
            "Bytes on the wire, before encryption.",
            ("peer", "direction"),
            {
                ("client", "in"): self.bytes_from_clients,
                ("client", "out"): self.bytes_to_clients,
                ("target", "in"): self.bytes_from_targets,
                ("target", "out"): self.bytes_to_targets,
            },
        )
        yield from self._upkeep()
        yield from self._issuer_families()
        yield from self._target_token_families()
        yield from self._model_families()

    def _upkeep(self) -> Iterator[Metric]:
        yield _counter("proxyd_tape_bytes", "Bytes written to tapes.", (), {(): self.tape_bytes})
        yield _counter("proxyd_tape_errors", "Tapes that could not be written.", (), {(): self.tape_errors})
        yield _counter("proxyd_cancels", "Cancel requests carried out.", (), {(): self.cancels})
        yield _counter(
            "proxyd_session_crashes", "Sessions ended by an error of ours.", (), {(): self.session_crashes}
        )
        yield _counter(
            "proxyd_log_lines_lost", "Log lines that could not be written.", (), {(): self._log_lines_lost()}
        )
        yield _counter(
            "proxyd_catalog_loads", "Reads of a target's catalog.", ("target", "outcome"), self._catalogs
        )
        yield _counter(
            "proxyd_reloads",
            "Reloads of configuration and policy.",
            ("outcome",),
            {(name,): count for name, count in self._reloads.items()},
        )
        yield _gauge(
            "proxyd_policy_loaded_timestamp_seconds",
            "When the policy in force was loaded.",
            (),
            {(): self.policy_loaded_at},
        )

    def _issuer_families(self) -> Iterator[Metric]:
        issuers = self._issuers
        yield _gauge(
            "proxyd_issuer_up",
            "1 while an issuer of tokens gave its keys when it was last asked.",
            ("issuer",),
            {(name,): int(numbers.is_up) for name, numbers in issuers.items()},
        )
        yield _gauge(
            "proxyd_issuer_keys",
            "Keys of an issuer that can verify tokens.",
            ("issuer",),
            {(name,): numbers.keys for name, numbers in issuers.items()},
        )
        yield _gauge(
            "proxyd_issuer_last_success_timestamp_seconds",
            "When an issuer last gave its keys; 0 for never.",
            ("issuer",),
            {(name,): numbers.last_success for name, numbers in issuers.items()},
        )
        yield _counter(
            "proxyd_issuer_fetches",
            "Questions to an issuer for its keys, by outcome.",
            ("issuer", "outcome"),
            {
                (name, outcome): count
                for name, numbers in issuers.items()
                for outcome, count in (("success", numbers.successes), ("failure", numbers.failures))
            },
        )
        yield _counter(
            "proxyd_tokens",
            "Tokens that were looked at, by issuer (none: not known whose) and outcome.",
            ("issuer", "outcome"),
            {
                ("", "refused"): self.tokens_refused,
                **{
                    (name, outcome): count
                    for name, numbers in issuers.items()
                    for outcome, count in (("accepted", numbers.accepted), ("refused", numbers.refused))
                },
            },
        )

    def _model_families(self) -> Iterator[Metric]:
        models = self._models
        yield _counter(
            "proxyd_model_calls",
            "Calls of language models that were answered whole.",
            ("target",),
            {(name,): numbers.calls for name, numbers in models.items()},
        )
        yield _counter(
            "proxyd_model_tokens",
            "Tokens that these calls took, as the answers say or estimated.",
            ("target", "kind"),
            {
                (name, kind): count
                for name, numbers in models.items()
                for kind, count in (("input", numbers.input_tokens), ("output", numbers.output_tokens))
            },
        )
        yield _counter(
            "proxyd_model_cost_usd",
            "What these calls cost by the price table.",
            ("target",),
            {(name,): numbers.cost_usd for name, numbers in models.items()},
        )

    def _target_token_families(self) -> Iterator[Metric]:
        yield _counter(
            "proxyd_target_token_fetches",
            "Questions to a token endpoint for the gateway's own token at a target, by outcome.",
            ("target", "login", "outcome"),
            {
                (*key, outcome): count
                for key, numbers in self._target_tokens.items()
                for outcome, count in (("success", numbers.successes), ("failure", numbers.failures))
            },
        )
        yield _gauge(
            "proxyd_target_token_expiry_timestamp_seconds",
            "When the token that is kept for a target ends; 0 for none yet.",
            ("target", "login"),
            {key: numbers.ends_at for key, numbers in self._target_tokens.items()},
        )


class _Numbers(Collector):
    """Shows the integers to prometheus_client when it collects."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        return self._metrics.families()


_Values = (
    dict[tuple[()], int]
    | dict[tuple[str], int]
    | dict[tuple[str, str], int]
    | dict[tuple[str, str, str], int]
    | dict[tuple[str, str], float]
    | dict[tuple[()], float]
    | dict[tuple[str], float]
)


def _gauge(name: str, text: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family


def _counter(name: str, text: str, labels: tuple[str, ...], values: _Values) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for key, value in values.items():
        family.add_metric(key, value)
    return family
