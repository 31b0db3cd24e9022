"""The models of a run: replies of the rewriter, adaptation of the generator, peak memory."""

from __future__ import annotations

from gendataagent.report.markup import count, name, number, percent, section, table
from gendataagent.report.run_view import RunView
from gendataagent.report.wording import rewriter_outcome


def models(run: RunView) -> str:
    """Return the section on rewriting, adaptation and memory; "" without data."""
    parts = (_rewriting(run), _adaptation(run), _memory(run))
    return section("models", "Models", "".join(parts))


def _rewriting(run: RunView) -> str:
    counts = run.rewriting
    captions = sum(n for outcome, n in counts.items() if not outcome.startswith("refused"))
    if captions == sum(counts.values()) and len(counts) < 2:
        return ""  # every reply was accepted
    rows = [
        [name(rewriter_outcome(outcome)), count(n), percent(n / max(captions, 1))]
        for outcome, n in counts.items()
    ]
    return "<h3>Replies of the rewriter</h3>" + table(
        ["outcome", "captions", "share of all captions"],
        rows,
        caption="Rewritten captions: accepted, replaced, and why replies were rejected",
    )


def _adaptation(run: RunView) -> str:
    rows = [
        [name(label), number(1000 * distance), number(1000 * error)]
        for label, distance, error in run.adaptation_distances
    ]
    if not rows:
        return ""
    explained = (
        '<p class="quiet">Squared MMD (maximum mean discrepancy) of images generated from the '
        "prompts of the training images, in the generator's own latent space; lower is closer. "
        "Sampling noise can make it negative. The real training images are the floor for any "
        "generator.</p>"
    )
    return "<h3>Adapted generator</h3>" + table(
        ["distance to held-out real images", "MMD² × 1000", "standard error"],
        rows,
        caption="Distance of generated to real images",
    ) + explained  # fmt: skip


def _memory(run: RunView) -> str:
    rows = [[name(stage), f"{count(round(mib))} MiB"] for stage, mib in run.peak_memory_mib.items()]
    if not rows:
        return ""
    return "<h3>Peak memory per stage</h3>" + table(
        ["stage", "peak memory"], rows, caption="Peak memory per stage"
    )
