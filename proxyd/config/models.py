"""`models` and `store`: what tokens cost, and where the gateway keeps what has to outlive it.

Used by what judges calls of models, by `proxyd.store`, and by `proxyd.references`.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, model_validator

from policy.llm.prices import PriceTable, price
from policy.located_yaml import Section, refusal
from policy.patterns import Glob
from proxyd.config.fields import FilePath

Dollars = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
ModelGlob = Annotated[str, Field(min_length=1, max_length=200)]


class ModelPrice(Section):
    """USD for a million tokens of the models that one of `models` (globs) means.

    `cached_input`, `cache_write`: of input that the provider has kept, and of input that it is told to keep. Absent,
    they are taken as they could be at most: the same as `input`, and twice as much.
    """

    models: Annotated[tuple[ModelGlob, ...], Field(min_length=1)] = Field(examples=['["gpt-4o-mini*"]'])
    input: Dollars = Field(examples=["0.15"])
    output: Dollars = Field(examples=["0.60"])
    cached_input: Dollars | None = None
    cache_write: Dollars | None = None


class Models(Section):
    """`prices`: the first entry that means a model is its price."""

    prices: tuple[ModelPrice, ...] = ()

    @model_validator(mode="after")
    def _every_price_can_count(self) -> Self:
        seen: list[tuple[Glob, int]] = []
        for index, entry in enumerate(self.prices):
            for number, text in enumerate(entry.models):
                glob = Glob(text)
                first = next((place for earlier, place in seen if earlier.covers(glob)), None)
                if first is not None:
                    raise refusal(
                        f"`{text}` never counts: models.prices[{first}] means the same models and comes first",
                        "put what is more special first, or remove it",
                        at=("prices", index, "models", number),
                    )
                seen.append((glob, index))
        return self

    def table(self) -> PriceTable:
        return PriceTable(
            tuple(
                price(entry.models, entry.input, entry.output, entry.cached_input, entry.cache_write)
                for entry in self.prices
            )
        )


class Store(Section):
    """`path`: an SQLite file, made when it is not there. Its directory must be proxyd's own."""

    path: FilePath = Field(examples=["/var/lib/proxyd/proxyd.db"])
