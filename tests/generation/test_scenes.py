"""Scenes: a place and a light in the place of a caption, without a word on the class."""

from __future__ import annotations

from gendataagent.core.protocols import RewriteRequest
from gendataagent.generation.class_mentions import names_another_class
from gendataagent.generation.prompts import compose_prompt
from gendataagent.generation.scenes import LIGHTS, PLACES, VIEWS, SceneRewriter
from tests.generation.conformance import check_rewriter


def scenes(seeds: range, class_name: str = "cat", *others: str) -> list[str]:
    request = RewriteRequest(
        caption="red, with white paws", class_name=class_name, seeds=tuple(seeds),
        class_names=(class_name, *others),
    )  # fmt: skip
    return [rewrite.text for rewrite in SceneRewriter().rewrite([request])[0]]


def test_it_conforms() -> None:
    check_rewriter(SceneRewriter)


def test_a_scene_has_a_place_a_light_and_often_a_view_and_nothing_of_the_caption() -> None:
    made = scenes(range(100))
    assert len(set(made)) == 100
    for scene in made:
        place, light, *view = scene.split(", ")
        assert place in PLACES
        assert light in LIGHTS
        assert set(view) <= set(VIEWS)
    assert compose_prompt("cat", made[0]).startswith("A photo of cat, which is ")


def test_what_names_another_class_is_never_drawn() -> None:
    others = ("forest", "snow", "desert", "lake")
    made = scenes(range(300), "sea", *others)
    assert not any(names_another_class(scene, "sea", ("sea", *others)) for scene in made)
    assert any("by the sea" in scene for scene in made)


def test_scenes_repeat_only_when_there_are_no_more() -> None:
    made = scenes(range(3), "cat", *(f"{word}" for part in PLACES for word in part.split()[-1:]))
    assert len(made) == 3
