"""Faults where one of several models is meant: the right place, the keys of the model that was chosen, and a remedy."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import Field

from policy.located_yaml import DocumentError, Section, parse, validate


class Dog(Section):
    kind: Literal["dog"]
    name: str
    barks: bool = True


class Lake(Section):
    kind: Literal["lake"]
    name: str
    depth: int = Field(examples=[7])
    lake: bool = False


class Album(Section):
    pictures: tuple[Annotated[Dog | Lake, Field(discriminator="kind")], ...]


def faults_of(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        validate(Album, parse(text, "a.yaml"))
    return [str(fault) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("picture", "fault"),
    [
        ("{name: rex}", "1:13: pictures[0].kind: missing; add `kind`, one of `dog`, `lake`"),
        ("{kind: null, name: rex}", "1:14: pictures[0].kind: missing; add `kind`, one of `dog`, `lake`"),
        (
            "{kind: dogg, name: rex}",
            "1:14: pictures[0].kind: `dogg` is not one of the choices; did you mean `dog`? use one of `dog`, `lake`",
        ),
        (
            "{kind: [dog], name: rex}",
            "1:14: pictures[0].kind: a list is not one of the choices; did you mean `dog`? use one of `dog`, `lake`",
        ),
        (
            "rex",
            "1:13: pictures[0]: a text is not a mapping; write a mapping with the keys `barks`, `depth`, `kind`",
        ),
        (
            "{kind: dog, name: rex, depth: 3}",
            "1:36: pictures[0].depth: not a key of `kind: dog`; only `kind: lake` has it: remove it; "
            "known keys here: `barks`, `kind`, `name`",
        ),
        (
            "{kind: dog, name: rex, bark: true}",
            "1:36: pictures[0].bark: unknown key; did you mean `barks`? known keys here: `barks`, `kind`, `name`",
        ),
        (
            "{kind: lake, name: como, depth: 2,50}",
            "1:47: pictures[0].50: unknown key; numbers have a point and no comma, as `2.50`; "
            "known keys here: `depth`, `kind`, `lake`, `name`",
        ),
        ("{kind: lake, name: como}", "1:13: pictures[0].depth: missing; add `depth`, as in `depth: 7`"),
        (
            "{kind: lake, name: como, depth: deep}",
            "1:38: pictures[0].depth: `deep` is not a whole number; write a",
        ),
    ],
)
def test_one_of_several_models(picture: str, fault: str) -> None:
    (found,) = faults_of(f"pictures: [ {picture} ]")
    assert found.startswith(f"a.yaml:{fault}"), found


def test_a_key_may_be_named_as_what_chooses() -> None:
    """pydantic puts the choice into its locations, where it must not be taken for the key."""
    assert faults_of("pictures: [{kind: lake, lake: {depth: 1}, name: 5}]") == [
        "a.yaml:1:12: pictures[0].depth: missing; add `depth`, as in `depth: 7`",
        "a.yaml:1:25: pictures[0].lake: a mapping is not `true` or `false`; write `true` or `false`",
        "a.yaml:1:43: pictures[0].name: `5` is not text; write text (put it in quotes)",
    ]


def test_the_chosen_model_is_made() -> None:
    album = validate(Album, parse("pictures: [{kind: lake, name: como, depth: 5}]", "a.yaml"))
    assert album.pictures == (Lake(kind="lake", name="como", depth=5),)
