"""What the models of a run did: replies of the rewriter, the adapted generator, memory taken."""

from __future__ import annotations

from gendataagent.report.markup import count, name, number, percent, section, table
from gendataagent.report.reading import RunView


def models(run: RunView) -> str:
    """Return the section on rewriting, adaptation and memory; empty where nothing is known."""
    parts = (_rewriting(run), _adaptation(run), _memory(run))
    return section("models", "What the models did", "".join(parts))


def _rewriting(run: RunView) -> str:
    counts = run.rewriting
    written = sum(n for what, n in counts.items() if not what.startswith("refused"))
    if written == sum(counts.values()) and len(counts) < 2:
        return ""  # every reply was taken: nothing to tell
    rows = [[name(what), count(n), percent(n / max(written, 1))] for what, n in counts.items()]
    return "<h3>Replies of the rewriter</h3>" + table(
        ["what became of them", "captions", "of those written"],
        rows,
        caption="Rewritten captions: taken, replaced, and why replies were refused",
    )


def _adaptation(run: RunView) -> str:
    rows = [
        [name(label), number(1000 * distance), number(1000 * error)]
        for label, distance, error in run.adaptation_distances
    ]
    if not rows:
        return ""
    explained = (
        '<p class="quiet">Squared MMD of images drawn from the prompts of the training images, '
        "in the latents of the generator itself; lower is nearer. It can be below zero by chance, "
        "and no generator comes nearer than the real training images do.</p>"
    )
    return "<h3>The adapted generator</h3>" + table(
        ["distance to held-out real images", "MMD² × 1000", "standard error"],
        rows,
        caption="Distance of the generator's images to the real ones",
    ) + explained  # fmt: skip


def _memory(run: RunView) -> str:
    rows = [[name(stage), f"{count(round(mib))} MiB"] for stage, mib in run.peak_memory_mib.items()]
    if not rows:
        return ""
    return "<h3>Peak memory of each stage</h3>" + table(
        ["stage", "most memory in use"], rows, caption="Peak memory of each stage"
    )
