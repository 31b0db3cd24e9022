"""The paper's filter: variance of gradients over early checkpoints of the classifier."""

from __future__ import annotations

from gendataagent.agent.filtering.dropping import FilterContext, FilterScores


def vog_scores(context: FilterContext) -> FilterScores:
    """Return the VoG of each candidate (Agarwal, D'souza, Hooker 2022), see `gradients`.

    Until `filter.min_checkpoints` checkpoints exist there is no variance to speak of: everything is
    let through and the note says so ([?] in the paper).
    """
    have, need = len(context.snapshots), context.config.min_checkpoints
    if have < need:
        return FilterScores(
            None,
            f"The VoG filter let everything through: it needs {need} checkpoints of the "
            f"classifier and there were {have}.",
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
