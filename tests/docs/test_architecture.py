"""The architecture page says what the code imports."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tilewright.docs.architecture import STAGES, depth, direct, imported, page, picture

USES = {stage: used for stage, (_, used) in STAGES.items()}


def test_the_stages_use_what_the_page_says() -> None:
    assert imported() == USES


def test_no_stage_uses_one_above_it() -> None:
    depths = depth(USES)
    assert all(depths[stage] > depths[other] for stage, used in USES.items() for other in used)
    assert depths["targets"] == 0


def test_a_circle_is_told() -> None:
    circle = {"a": frozenset({"b"}), "b": frozenset({"c"}), "c": frozenset({"b"})}
    with pytest.raises(ValueError, match="stages use each other: b -> c -> b"):
        depth(circle)


def test_only_uses_that_no_others_imply_are_drawn() -> None:
    uses = {"a": frozenset({"b", "c"}), "b": frozenset({"c"}), "c": frozenset[str]()}
    assert direct(uses) == {"a": {"b"}, "b": {"c"}, "c": set()}


def test_the_picture_has_every_stage_and_is_always_the_same() -> None:
    text = picture(USES)
    words = {node.text for node in ElementTree.fromstring(text).iter() if node.tag.endswith("text")}
    assert words == set(STAGES)
    assert picture(USES) == text


def test_the_page_lists_every_stage() -> None:
    assert [line.split("`")[1] for line in page().splitlines() if line.startswith("| `")] == sorted(
        STAGES, key=lambda s: (-depth(USES)[s], s)
    )
