"""The Python blocks of README.md run in order, in one namespace, as a reader would."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

README = Path(__file__).parents[1] / "README.md"
MIN_BLOCKS = 0  # raise it to 1 when README has blocks that start with ```python

# Sizes alone differ from what is printed there: a GPU's models and an evening's training.
TINY = {
    '"stable-diffusion-v1-5/stable-diffusion-v1-5"': '"tiny-sd"',
    "epochs=40": "epochs=2",
    "range(40)": "range(2)",
    "rounds=5": "rounds=1",
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


def run_blocks(text: str, name: str) -> dict[str, Any]:
    """Run the blocks of a text; an error's traceback names the file and its line."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
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
    run_blocks(text, str(README))


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
    assert (namespace["a"], namespace["b"]) == (1, 4)


def test_a_block_that_fails_is_named_with_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        run_blocks(SAMPLE.replace("b = a + 1", "b = 1 / 0"), "README.md")
    last = caught.traceback[-1]
    assert (Path(last.path).name, last.lineno + 1) == ("README.md", 14)
