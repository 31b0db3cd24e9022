"""The Python blocks of README.md run in order, in one namespace, as a reader would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, Dataset

README = Path(__file__).parents[1] / "README.md"
MIN_BLOCKS = 3

# Sizes alone differ from what is printed there: a GPU's models and an evening's training.
TINY = {
    '"stable-diffusion-v1-5/stable-diffusion-v1-5"': '"tiny-sd"',
    "epochs=40": "epochs=3",
    "range(40)": "range(3)",
    "rounds=5": "rounds=1, first_round_epoch=1, num_inference_steps=2",
    '"epochs": 40': '"epochs": 3',
    '"rounds": 3': '"rounds": 1',
}

_BLOCK = re.compile(
    r"(?:^<!-- not run: (?P<reason>[^>]+) -->\n+)?^```python\n(?P<code>.*?)^```$", re.M | re.S
)


def blocks_of(text: str) -> list[tuple[int, str]]:
    """Return (line, code) of each ```python block, but those after `<!-- not run: reason -->`."""
    return [
        (text.count("\n", 0, match.start("code")), match["code"])
        for match in _BLOCK.finditer(text)
        if match["reason"] is None
    ]


class Photos(Dataset[Any]):
    """The training images in `photos/`: (image [3, 32, 32], label)."""

    def __init__(self, root: Path) -> None:
        self.classes = sorted(folder.name for folder in root.iterdir())
        self.paths = sorted(root.rglob("*.png"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path = self.paths[index]
        return self.transform(Image.open(path)), self.classes.index(path.parent.name)

    @staticmethod
    def transform(image: Image.Image) -> torch.Tensor:
        pixels_HW3 = np.array(image.convert("RGB").resize((32, 32)))
        return torch.from_numpy(pixels_HW3).permute(2, 0, 1) / 255


def train_one_epoch(model: nn.Module, loader: DataLoader[Any]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for images_B3SS, labels_B in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images_B3SS), labels_B).backward()
        optimizer.step()


def what_a_reader_has(photos: Path) -> dict[str, Any]:
    """Return what a block may use without defining it: the reader's data, model and loop."""
    train_set = Photos(photos / "train")
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.Flatten(),
        nn.Linear(4 * 8 * 8, len(train_set.classes)),
    )  # fmt: skip
    return {
        "train_set": train_set,
        "model": model,
        "train_one_epoch": train_one_epoch,
        "DataLoader": DataLoader,
        "ConcatDataset": ConcatDataset,
    }


def run_blocks(text: str, name: str, given: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run the blocks of a text; an error's traceback names the file and its line."""
    namespace: dict[str, Any] = {"__name__": "__main__", **(given or {})}
    for line, code in blocks_of(text):
        for printed, tiny in TINY.items():
            code = code.replace(printed, tiny)
        exec(compile("\n" * line + code, name, "exec"), namespace)
    return namespace


def test_the_python_blocks_of_the_readme_run(
    photo_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = README.read_text(encoding="utf-8")
    assert len(blocks_of(text)) >= MIN_BLOCKS
    shutil.copytree(photo_folder, tmp_path / "photos")
    monkeypatch.chdir(tmp_path)
    run_blocks(text, str(README), what_a_reader_has(tmp_path / "photos"))


SAMPLE = """
```python
a = 1
```

<!-- not run: needs a GPU -->
```python
a = 1 / 0
```
```bash
exit 1
```
```python
b = a + 1
for epoch in range(40): b += 1
```
"""


def test_blocks_share_names_and_marked_ones_are_skipped() -> None:
    assert [line for line, _ in blocks_of(SAMPLE)] == [2, 13]
    namespace = run_blocks(SAMPLE, "sample")
    assert (namespace["a"], namespace["b"]) == (1, 5)


def test_a_block_that_fails_is_named_with_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_blocks(SAMPLE.replace("b = a + 1", "b = 1 / 0"), "README.md")
    last = caught.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("README.md", 14)
