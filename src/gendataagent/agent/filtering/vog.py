"""The paper's filter: variance of gradients over early snapshots of the classifier."""

from __future__ import annotations

from gendataagent.agent.filtering.verdicts import FilterContext, FilterScores

MIN_SNAPSHOTS = 2


def vog_scores(context: FilterContext) -> FilterScores:
    """Return the VoG of each candidate (Agarwal, D'souza, Hooker 2022), see `training.vog`.

    One snapshot has no variance, so with fewer than two every image passes and the note says so
    ([?] in the paper).
    """
    have, need = len(context.snapshots), MIN_SNAPSHOTS
    if have < need:
        return FilterScores(
            None,
            f"The VoG filter let every image pass: it needs {need} snapshots of the classifier, "
            f"and there were {have}.",
        )
    # These import torch, so only when used.
    from gendataagent.core.checkpoints import load_weights
    from gendataagent.training.vog import variance_of_gradients

    values_N = variance_of_gradients(
        context.classifier,
        [load_weights(path) for path in context.snapshots],
        context.pixels,
        batch_size=context.batch_size,
    )
    return FilterScores(values_N.numpy(), is_vog=True)
