"""The controls: no caption, and an unchanged caption."""

from __future__ import annotations

from PIL import Image

from gendataagent.core.protocols import CaptionRequest, Rewrite, RewriteRequest
from gendataagent.generation.plain import NoCaption, SameCaption


def test_no_caption_is_one_empty_text_per_image() -> None:
    request = CaptionRequest(image=Image.new("RGB", (2, 2)), class_name="cat", seed=0)
    assert NoCaption().caption([request] * 3) == ["", "", ""]
    assert NoCaption().caption([]) == []


def test_the_same_caption_is_returned_once_per_seed() -> None:
    requests = [
        RewriteRequest(caption="brown", class_name="cat", seeds=(1, 2)),
        RewriteRequest(caption="", class_name="cat", seeds=(3,)),
    ]
    assert SameCaption().rewrite(requests) == [
        (Rewrite(text="brown"),) * 2,
        (Rewrite(text=""),),
    ]
    assert SameCaption().rewrite([]) == []
