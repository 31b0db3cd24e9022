"""Copies of some test images that a run cured, or got wrong: what the report shows of them.

RUN/mistakes/mistakes.jsonl    `Mistake`
RUN/mistakes/000.png           the image, at most `SIDE_PX` on a side
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from gendataagent.core.png import png_bytes
from gendataagent.core.records import derive_seed
from gendataagent.core.run_folder import RunFolder

if TYPE_CHECKING:
    from gendataagent.data import LabelledImages

SIDE_PX = 160
EACH = 12  # of each kind, at most
MISTAKES_FILE = "mistakes.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistake:
    """A test image that the final classifier or the baseline's gets wrong.

    Args:
        file: its copy, beside the list.
        label: index of its class.
        predicted: by the final classifier.
        without: predicted by the baseline's classifier; None if there is none.
    """

    id: str
    file: str
    label: int
    predicted: int
    without: int | None = None

    @property
    def cured(self) -> bool:
        """Whether only the baseline's classifier gets it wrong."""
        return self.predicted == self.label

    @property
    def new(self) -> bool:
        """Whether only the final classifier gets it wrong."""
        return self.without == self.label

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain JSON values; `core.rows.fit` reads them."""
        return asdict(self)


def write_mistakes(folder: RunFolder, test: LabelledImages) -> None:
    """Write copies of test images that were cured, or that the final classifier gets wrong.

    With a baseline: images that only one of the two gets wrong. Which of them is drawn by their
    ids, each class in turn, so it is the same for the same predictions.

    Raises:
        ImageUnreadableError: an image cannot be read any more.
        StorageError: a copy cannot be written.
    """
    after = folder.read_predictions()
    before = RunFolder(folder.baseline).read_predictions()
    rows = [
        Mistake(
            id=id_, file="", label=label, predicted=said,
            without=before[id_][1] if id_ in before else None,
        )
        for id_, (label, said) in after.items()
    ]  # fmt: skip
    if before:
        cured = [row for row in rows if row.cured and not row.new]
        wrong = [row for row in rows if row.new and not row.cured]
    else:
        cured, wrong = [], [row for row in rows if not row.cured]
    chosen = [*_some(cured), *_some(wrong)]
    listed = []
    for number, row in enumerate(chosen):
        image = test.image(test.index_of(row.id))
        image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.LANCZOS)
        file = f"{number:03d}.png"
        folder.write(folder.mistakes / file, png_bytes(image))
        listed.append({**row.to_json(), "file": file})
    if listed:
        folder.write_jsonl(folder.mistakes / MISTAKES_FILE, listed)


def _some(mistakes: Iterable[Mistake]) -> list[Mistake]:
    """Return at most `EACH`, one of each class in turn, drawn by id."""
    of_class: dict[int, list[Mistake]] = defaultdict(list)
    for mistake in sorted(mistakes, key=lambda one: derive_seed(0, "mistake", one.id)):
        of_class[mistake.label].append(mistake)
    turns = sorted(
        (turn, label, mistake.id, mistake)
        for label, group in of_class.items()
        for turn, mistake in enumerate(group)
    )
    return [turn[-1] for turn in turns[:EACH]]
