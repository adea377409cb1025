"""What tokens cost: the price table of the configuration, by model. Pure. Called by `policy.llm.reading` and by what
counts an answer's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from policy.patterns import Glob

_MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """USD for a million tokens. `cached_input`: of input that the provider had kept, `cache_write`: of input that it
    is asked to keep."""

    models: tuple[Glob, ...]
    input: float
    output: float
    cached_input: float
    cache_write: float

    def cost_usd(
        self, input_tokens: int, output_tokens: int, *, cached_tokens: int = 0, written_tokens: int = 0
    ) -> float:
        """`input_tokens` are those that were neither kept already nor are to be kept."""
        return (
            input_tokens * self.input
            + output_tokens * self.output
            + cached_tokens * self.cached_input
            + written_tokens * self.cache_write
        ) / _MILLION


@dataclass(frozen=True, slots=True)
class PriceTable:
    """The first entry that means a model is its price."""

    prices: tuple[Price, ...] = ()

    def price(self, model: str) -> Price | None:
        for price in self.prices:
            if any(glob.matches(model) for glob in price.models):
                return price
        return None


NO_PRICES = PriceTable()


def price(
    models: Sequence[str],
    input: float,
    output: float,
    cached_input: float | None = None,
    cache_write: float | None = None,
) -> Price:
    """What is not said about a provider's cache is taken to cost as much as it could: kept input as much as any, input
    to be kept twice as much."""
    return Price(
        tuple(Glob(model) for model in models),
        input,
        output,
        input if cached_input is None else cached_input,
        2 * input if cache_write is None else cache_write,
    )
