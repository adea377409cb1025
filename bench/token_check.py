"""What checking a token costs, by kind of signature: the first time by a cached key, and again.

    .venv/bin/python -m bench.token_check [--json]

No network and no clock but the processor's: an issuer's keys are put in by hand. Medians of many checks, each of
another token.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from typing import Any

import jwt
import structlog

from demo.issuer import new_keys
from proxyd.config import Issuer
from proxyd.identity.oidc import Tokens
from proxyd.identity.oidc.jwks import read_keys
from proxyd.metrics import Metrics

URL = "https://login.example"
CHECKS = 2000
TARGET_US = 150.0
PRIVATE_PARTS = frozenset({"d", "p", "q", "dp", "dq", "qi"})


def measure(checks: int = CHECKS) -> dict[str, dict[str, float]]:
    """Microseconds by algorithm: `first` and `known`."""
    private = new_keys("1")
    public = [{name: part for name, part in key.items() if name not in PRIVATE_PARTS} for key in private]
    keys = read_keys(json.dumps({"keys": public}).encode())
    return {key["alg"]: _measure_one(key, keys, checks) for key in private}


def _measure_one(key: dict[str, Any], keys: Any, checks: int) -> dict[str, float]:
    issuer = Issuer(name="company", issuer=URL, audiences=("proxyd",))
    tokens = Tokens((issuer,), log=structlog.get_logger(), metrics=Metrics())
    for source in tokens._sources.values():
        source._keys = keys
        source._fetched_at = time.monotonic()
    signing = jwt.PyJWK(key, algorithm=key["alg"]).key
    texts = [_token(key, signing, number) for number in range(checks)]
    first = [_timed(tokens.check, text) for text in texts]
    known = [_timed(tokens.known, texts[-1]) for _ in texts]
    return {"first": statistics.median(first), "known": statistics.median(known)}


def _timed(check: Any, text: str) -> float:
    begin = time.perf_counter_ns()
    if check(text) is None:
        raise RuntimeError("a sound token was not taken")
    return (time.perf_counter_ns() - begin) / 1000


def _token(key: dict[str, Any], signing: Any, number: int) -> str:
    now = int(time.time())
    claims = {
        **{"iss": URL, "aud": "proxyd", "sub": f"agent-{number}", "iat": now, "exp": now + 3600},
        **{
            "groups": ["data", "readers", "agents"],
            "email": f"agent-{number}@example.com",
            "jti": str(number) * 8,
        },
    }
    return jwt.encode(claims, signing, algorithm=key["alg"], headers={"kid": key["kid"], "typ": "at+jwt"})


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.token_check", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("--checks", type=int, default=CHECKS)
    options = parser.parse_args()
    found = measure(options.checks)
    if options.json:
        print(json.dumps(found))
    else:
        print(f"{'':8}{'first (us)':>12}{'known (us)':>12}")
        for algorithm, numbers in found.items():
            print(f"{algorithm:8}{numbers['first']:12.1f}{numbers['known']:12.1f}")
        print(f"to reach: {TARGET_US:.0f} us with a cached key")
    return 0


if __name__ == "__main__":
    sys.exit(main())
