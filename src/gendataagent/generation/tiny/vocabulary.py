"""The closed set of visible attributes that the bundled generator was trained on, and their words.

A caption of this vocabulary is a list of phrases joined by ", ", one per attribute: `brown, on a
green background, in bright light`. The first wording of a value is the canonical one; the generator
was trained on all of them, drawn at random. So they are data of that model: another word here is a
word it has never read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

NAME = "visible-attributes"
# To be raised whenever the same image or seed may get other words.
REVISION = "1"

COLOURS = (
    "black",
    "white",
    "grey",
    "red",
    "orange",
    "brown",
    "beige",
    "yellow",
    "green",
    "blue",
    "pink",
)

Wordings = Mapping[str, tuple[str, ...]]
AttributeName = Literal[
    "subject_colour",
    "background_colour",
    "light",
    "colourfulness",
    "framing",
    "background",
    "warmth",
    "contrast",
    "position",
    "detail",
]

WORDINGS: Mapping[AttributeName, Wordings] = {
    "subject_colour": {c: (c, f"mostly {c}", f"{c} in colour") for c in COLOURS},
    "background_colour": {
        c: (f"on a {c} background", f"against a {c} backdrop", f"with {c} surroundings")
        for c in COLOURS
    },
    "light": {
        "dark": ("in dim light", "darkly lit", "seen at dusk"),
        "bright": ("in bright light", "brightly lit", "seen in full daylight"),
    },
    "colourfulness": {
        "vivid": ("with vivid colours", "richly coloured"),
        "grey": ("almost without colour", "with muted colours", "nearly monochrome"),
    },
    "framing": {
        "close": ("seen close up", "filling the picture"),
        "far": ("small in the picture", "seen from afar"),
    },
    "background": {
        "plain": ("with a plain background", "with nothing around it"),
        "busy": ("with a busy background", "in cluttered surroundings"),
    },
    "warmth": {
        "warm": ("in warm light", "in warm tones"),
        "cool": ("in cool light", "in cool tones"),
    },
    "contrast": {
        "high": ("with strong contrast", "in hard light"),
        "low": ("with little contrast", "in hazy light"),
    },
    "position": {
        "left": ("on the left", "at the left side"),
        "right": ("on the right", "at the right side"),
    },
    "detail": {
        "fine": ("finely detailed", "with crisp edges"),
        "smooth": ("smooth and simple", "with soft edges"),
    },
}

MEANING: Mapping[str, tuple[AttributeName, str]] = {
    wording: (attribute, value)
    for attribute, values in WORDINGS.items()
    for value, wordings in values.items()
    for wording in wordings
}
SEPARATOR = ", "
# As many as fit into the text encoder with the class name, see the model card.
PHRASES_AT_MOST = 6


@dataclass(frozen=True)
class Attributes:
    """The attributes of one image; None where nothing stands out.

    The colours are among `COLOURS`; every other field is a key of its entry in `WORDINGS`.
    """

    subject_colour: str
    background_colour: str
    light: str | None = None
    colourfulness: str | None = None
    framing: str | None = None
    background: str | None = None
    warmth: str | None = None
    contrast: str | None = None
    position: str | None = None
    detail: str | None = None

    def named(self) -> dict[AttributeName, str]:
        """Return attribute -> value of everything that stands out, in the order of captions."""
        values = {name: getattr(self, name) for name in WORDINGS}
        return {name: value for name, value in values.items() if value is not None}


def phrase(attribute: AttributeName, value: str) -> str:
    """Return the canonical wording, e.g. ("light", "dark") -> "in dim light"."""
    return WORDINGS[attribute][value][0]


def caption_of(attributes: Attributes) -> str:
    """Return the canonical caption: subject, background, then the rest, at most six phrases."""
    phrases = [phrase(name, value) for name, value in attributes.named().items()]
    return SEPARATOR.join(phrases[:PHRASES_AT_MOST])


# Class name -> other names of the same thing. The generator knows the class names alone, each one
# token; anything else it reads letter by letter.
CLASSES: Mapping[str, tuple[str, ...]] = {
    "airplane": ("aeroplane", "plane", "aircraft", "airliner"),
    "automobile": ("car", "auto", "motorcar", "motor car", "passenger car"),
    "bird": (),
    "cat": ("house cat", "domestic cat", "felis catus"),
    "deer": (),
    "dog": ("domestic dog", "canis familiaris"),
    "frog": (),
    "horse": ("equus caballus",),
    "ship": ("boat", "vessel", "watercraft"),
    "truck": ("lorry",),
}
