"""Types that the sections of a policy document share. Called by `policy.sections` and `policy.ssh_rules.section`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from pydantic import AfterValidator, Field

from policy.located_yaml import refusal
from policy.patterns import PatternError

Text = Annotated[str, Field(min_length=1, max_length=1000)]


def patterned(parse: Callable[[str], object]) -> AfterValidator:
    """Keeps the text if `parse` can make a pattern of it; its PatternError becomes the fault."""

    def check(text: str) -> str:
        try:
            parse(text)
        except PatternError as error:
            raise refusal(error.message, error.remedy) from None
        return text

    return AfterValidator(check)
