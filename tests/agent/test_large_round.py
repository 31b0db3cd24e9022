"""The records of a round with a hundred thousand candidates: memory and time.

Measured in a process of its own, since peak memory is of a process. A million, which needs less
than 1 GB with everything that a run imports, is measured by

    python tests/agent/test_large_round.py FOLDER 1000000
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

SMALL, LARGE = 20_000, 100_000
VARIANTS = 4
MAX_BYTES_EACH = 850  # of memory; 3,000 when candidates were JSON and objects
MAX_MB = 550.0  # of the whole process, most of it imports
MAX_SECONDS_OF_A_MILLION = 20.0  # of one idle core


@pytest.mark.integration
@pytest.mark.skipif(sys.platform == "win32", reason="measures with resource")
def test_a_large_round_needs_little_memory_and_time(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, __file__, str(tmp_path), str(SMALL), str(LARGE)],
        capture_output=True, text=True, timeout=250, check=True,
    )  # fmt: skip
    small, large = map(json.loads, process.stdout.splitlines())
    each = (large["peak_mb"] - small["peak_mb"]) * 1e6 / (LARGE - SMALL)
    assert each < MAX_BYTES_EACH, (small, large)
    assert large["peak_mb"] < MAX_MB, large
    seconds = sum(large[step] for step in ("select", "plan", "write", "read"))
    assert seconds * 1e6 / LARGE < 3 * MAX_SECONDS_OF_A_MILLION, large  # the machine may be busy


def measure(folder: Path, candidates: int) -> dict[str, Any]:
    """Select, plan, caption, rewrite, write and read a round; return CPU seconds and memory."""
    import pyarrow as pa

    import gendataagent.agent.agent  # noqa: F401 - what a run imports
    from gendataagent.config import GenerationConfig
    from gendataagent.core.protocols import Rewrite, RewriteRequest
    from gendataagent.core.record_table import RecordTable
    from gendataagent.core.records import Candidate, ModelDescription, Scored
    from gendataagent.core.run_folder import RunFolder
    from gendataagent.generation import stages

    class Rewriter:
        """Gives every candidate words of its own, the worst case for memory."""

        description = ModelDescription(name="rewriter")

        def rewrite(self, requests: Sequence[RewriteRequest]) -> list[tuple[Rewrite, ...]]:
            return [
                tuple(Rewrite(text=f"{r.caption}, seen from above at {seed}") for seed in r.seeds)
                for r in requests
            ]

        def release(self) -> None: ...

    seconds: dict[str, float] = {}
    start = time.process_time()

    def lap(step: str) -> None:
        nonlocal start
        seconds[step] = round(time.process_time() - start, 2)
        start = time.process_time()

    run, sources = RunFolder(folder), candidates // VARIANTS
    names = [f"class number {i}" for i in range(1000)]
    selected = RecordTable.of(
        Scored,
        (
            Scored(source_id=f"train/n{i % 1000:08d}/img_{i:08d}.JPEG", label=i % 1000, score=i / 7)
            for i in range(sources)
        ),
    )
    with run.writer(folder / "selected.parquet") as stream:
        selected.write(stream)
    lap("select")
    planned = RecordTable.of(
        Candidate,
        stages.plan(
            selected, round_number=0, rewrites=VARIANTS, class_names=names,
            settings=GenerationConfig(), run_seed=0,
        ),
    )  # fmt: skip
    lap("plan")
    known = {
        s: f"a brown animal on green grass {i}" for i, s in enumerate(selected.column("source_id"))
    }
    captions = stages.caption(planned, None, None, run_seed=0, known=known)  # type: ignore[arg-type]
    captioned = planned.with_fields_of(captions, "source_caption")
    lap("caption")
    prompts = stages.rewrite(captioned, Rewriter(), class_names=names[:5])
    prompted = captioned.with_fields_of(prompts, "caption", "prompt", "rewritten_by")
    lap("rewrite")
    with run.writer(folder / "candidates.parquet") as stream:
        prompted.write(stream)
    lap("write")
    del planned, captioned, prompted, known  # a resumed run begins with reading
    pa.default_memory_pool().release_unused()
    assert run.is_whole(folder / "candidates.parquet")
    read = RecordTable.read(Candidate, folder / "candidates.parquet")
    assert sum(candidate.prompt is not None for candidate in read) == candidates
    lap("read")
    size_mb = (folder / "candidates.parquet").stat().st_size / 1e6
    return {**seconds, "peak_mb": _peak_mb(), "file_mb": size_mb}


def _peak_mb() -> float:
    """Return the peak memory of this process."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss of a child begins with the memory of its parent
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    for count in sys.argv[2:]:
        print(json.dumps(measure(Path(sys.argv[1]), int(count))))
