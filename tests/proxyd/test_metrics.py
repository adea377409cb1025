"""The numbers and the page that shows them."""

from __future__ import annotations

import trio
import trio.testing
from prometheus_client.parser import text_string_to_metric_families

from proxyd import metrics_endpoint
from proxyd.metrics import HandshakeFailure, Metrics, SessionOutcome, TokenNumbers
from proxyd.metrics_endpoint import MetricsEndpoint


def samples(metrics: Metrics) -> dict[str, float]:
    """`name{label=value,...}` to value, ours only."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(metrics.render().decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_plain_integers_become_counters() -> None:
    metrics = Metrics("1.2.3")
    statements = metrics.operations("postgres")
    statements.allowed += 3
    statements.denied += 1
    metrics.bytes_from_clients += 100
    metrics.results_masked += 2
    shown = samples(metrics)
    assert shown["proxyd_operations_total{effect=allow,protocol=postgres}"] == 3
    assert shown["proxyd_operations_total{effect=deny,protocol=postgres}"] == 1
    assert shown["proxyd_operations_total{effect=hold,protocol=postgres}"] == 0
    assert shown["proxyd_bytes_total{direction=in,peer=client}"] == 100
    assert shown["proxyd_masked_results_total"] == 2
    assert any(name.startswith("proxyd_build_info{") and "version=1.2.3" in name for name in shown)
    assert shown["process_resident_memory_bytes"] > 0


def test_sessions() -> None:
    metrics = Metrics()
    metrics.session_opened("a", "postgres")
    metrics.session_opened("a", "postgres")
    metrics.session_ended("a", "postgres", SessionOutcome.IDLE)
    metrics.connection_opened("a")
    metrics.handshake_failed("a", HandshakeFailure.TLS)
    shown = samples(metrics)
    assert shown["proxyd_sessions_open{listener=a,protocol=postgres}"] == 1
    assert shown["proxyd_sessions_total{outcome=idle}"] == 1
    assert shown["proxyd_connections_open{listener=a}"] == 1
    assert shown["proxyd_handshake_failures_total{listener=a,reason=tls}"] == 1


def test_denials_are_labelled_by_rules_of_the_policy_only() -> None:
    metrics = Metrics()
    metrics.set_rules(["no-secrets"])
    metrics.denied_by("no-secrets")
    metrics.denied_by("")
    for number in range(1000):
        metrics.denied_by(f"made-up-{number}")
    shown = {name: value for name, value in samples(metrics).items() if name.startswith("proxyd_denials")}
    assert shown == {
        "proxyd_denials_total{rule=no-secrets}": 1,
        "proxyd_denials_total{rule=(no rule allows it)}": 1,
        "proxyd_denials_total{rule=(other)}": 1000,
    }


def test_reloads_and_catalogs() -> None:
    metrics = Metrics()
    metrics.reloaded(is_success=True, now=1000.0)
    metrics.reloaded(is_success=False, now=2000.0)
    metrics.catalog_loaded("shop", is_success=False)
    shown = samples(metrics)
    assert shown["proxyd_reloads_total{outcome=applied}"] == 1
    assert shown["proxyd_reloads_total{outcome=rejected}"] == 1
    assert shown["proxyd_policy_loaded_timestamp_seconds"] == 1000.0
    assert shown["proxyd_catalog_loads_total{outcome=failed,target=shop}"] == 1


def test_tokens_that_the_gateway_fetches() -> None:
    metrics, numbers = Metrics(), TokenNumbers(successes=2, failures=1, ends_at=1000.5)
    metrics.watch_tokens("api", "reader", numbers)
    numbers.failures += 1
    shown = samples(metrics)
    assert shown["proxyd_target_token_fetches_total{login=reader,outcome=success,target=api}"] == 2
    assert shown["proxyd_target_token_fetches_total{login=reader,outcome=failure,target=api}"] == 2
    assert shown["proxyd_target_token_expiry_timestamp_seconds{login=reader,target=api}"] == 1000.5


def test_two_daemons_in_one_process_do_not_share() -> None:
    first, second = Metrics(), Metrics()
    first.cancels += 1
    assert samples(second)["proxyd_cancels_total"] == 0


# The page


async def ask(request: bytes, *, is_ready: bool = True) -> bytes:
    client, server = trio.testing.memory_stream_pair()
    endpoint = MetricsEndpoint(Metrics(), lambda: is_ready)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.serve, server)
        await client.send_all(request)
        answer = b""
        while chunk := await client.receive_some():
            answer += chunk
    return answer


async def test_metrics_page() -> None:
    head, _, body = (await ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"Content-Type: text/plain; version=0.0.4" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert b"proxyd_sessions_open" in body


async def test_health_and_readiness() -> None:
    assert (await ask(b"GET /healthz HTTP/1.1\r\n\r\n", is_ready=False)).startswith(b"HTTP/1.1 200")
    assert (await ask(b"GET /readyz HTTP/1.1\r\n\r\n", is_ready=True)).startswith(b"HTTP/1.1 200")
    assert (await ask(b"GET /readyz HTTP/1.1\r\n\r\n", is_ready=False)).startswith(b"HTTP/1.1 503")


async def test_head_has_no_body() -> None:
    answer = await ask(b"HEAD /healthz HTTP/1.1\r\n\r\n")
    assert b"Content-Length: 3\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_what_is_not_served() -> None:
    assert (await ask(b"GET /secret HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 404")
    assert (await ask(b"POST /metrics HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 405")
    assert (await ask(b"\x16\x03\x01\r\n\r\n")).startswith(b"HTTP/1.1 400")


async def test_an_endless_head_is_cut() -> None:
    assert (await ask(b"GET / HTTP/1.1\r\n" + b"a" * metrics_endpoint.MAX_HEAD_BYTES)).startswith(
        b"HTTP/1.1 431"
    )


async def test_half_a_request_ends_at_the_deadline(autojump_clock: trio.testing.MockClock) -> None:
    client, server = trio.testing.memory_stream_pair()
    endpoint = MetricsEndpoint(Metrics(), lambda: True)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(endpoint.serve, server)
        await client.send_all(b"GET /met")
        assert await client.receive_some() == b""
    assert trio.current_time() >= metrics_endpoint.REQUEST_TIMEOUT_S


async def test_connections_are_capped() -> None:
    endpoint = MetricsEndpoint(Metrics(), lambda: True)
    async with trio.open_nursery() as nursery:
        pairs = [trio.testing.memory_stream_pair() for _ in range(metrics_endpoint.MAX_CONNECTIONS)]
        for _, server in pairs:
            nursery.start_soon(endpoint.serve, server)
        await trio.testing.wait_all_tasks_blocked()
        late, server = trio.testing.memory_stream_pair()
        await endpoint.serve(server)
        assert await late.receive_some() == b""
        nursery.cancel_scope.cancel()


def test_issuers() -> None:
    metrics = Metrics()
    company, partner = metrics.issuer("company"), metrics.issuer("partner")
    company.is_up, company.keys, company.last_success, company.successes = True, 3, 1_800_000_000.0, 2
    company.accepted = 7
    partner.failures, partner.refused = 4, 5
    metrics.tokens_refused += 1
    shown = samples(metrics)
    assert shown["proxyd_issuer_up{issuer=company}"] == 1
    assert shown["proxyd_issuer_up{issuer=partner}"] == 0
    assert shown["proxyd_issuer_keys{issuer=company}"] == 3
    assert shown["proxyd_issuer_last_success_timestamp_seconds{issuer=company}"] == 1_800_000_000.0
    assert shown["proxyd_issuer_fetches_total{issuer=company,outcome=success}"] == 2
    assert shown["proxyd_issuer_fetches_total{issuer=partner,outcome=failure}"] == 4
    assert shown["proxyd_tokens_total{issuer=company,outcome=accepted}"] == 7
    assert shown["proxyd_tokens_total{issuer=partner,outcome=refused}"] == 5
    assert shown["proxyd_tokens_total{issuer=,outcome=refused}"] == 1
    metrics.keep_issuers(["company"])
    assert not [name for name in samples(metrics) if "partner" in name]


def test_what_was_replaced_in_bodies_counts_for_the_mask_or_the_detector() -> None:
    metrics = Metrics("1")
    metrics.set_rules({"api-fields"})
    metrics.masked({"api-fields": 2, "email": 3})
    text = metrics.render().decode()
    assert 'proxyd_masked_values_total{mask="api-fields"} 2.0' in text
    assert 'proxyd_detected_total{kind="email"} 3.0' in text
    assert 'mask="email"' not in text
