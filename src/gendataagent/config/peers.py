"""The mechanisms of other papers as strategies, from their papers; see docs/peers.md."""

from __future__ import annotations

from collections.abc import Iterator

from gendataagent.config.strategy import REAL_FAKE, Strategy, over

# All images once, before training, from every real one; prompts have only the class name.
_CLASS_PROMPTS = over(REAL_FAKE, {"prompting": {"captioner": "none"}})
_FROM_TEXT = over(
    _CLASS_PROMPTS,
    {
        "selection": {"per_class": True},
        "generation": {"start": "noise", "feedback": "entropy", "feedback_scale": "auto"},
    },
)
_DA_FUSION = over(
    _CLASS_PROMPTS,
    {
        "generation": {"strengths": [0.25, 0.5, 0.75, 1.0]},
        "training": {"sibling_replacement": 0.5, "synthetic_share": 0.0},
    },
)
_DIFF_MIX = over(
    _CLASS_PROMPTS,
    {
        "generation": {
            "strengths": [0.3, 0.5, 0.7, 0.9], "prompt_class": "other", "soft_label_gamma": 0.5,
        },
        "training": {"sibling_replacement": 0.3, "synthetic_share": 0.0},
    },
)  # fmt: skip
# No weights by signal-to-noise ratio and no distribution matching, which are Real-Fake's.
_PLAIN_LOSS = {"enabled": True, "snr_gamma": 0.0, "mmd_weight": 0.0}


def peers() -> Iterator[Strategy]:
    """Yield the strategies, each on the settings of `real-fake` where its paper says nothing."""
    yield Strategy(
        name="da-fusion",
        about="images at four strengths; half of the time in place of the real image",
        source="Trabucco et al. 2024, its scripts [C]; without its learned class tokens",
        settings=_DA_FUSION,
    )
    yield Strategy(
        name="real-guidance",
        about="close images at five low strengths; CLIP drops the quarter least like their class",
        source="He et al. 2023 [R]; a share instead of a threshold",
        settings=over(
            _CLASS_PROMPTS,
            {
                "generation": {"strengths": [0.15, 0.2, 0.35, 0.4, 0.5]},
                "filter": {"by": "text-agreement", "drop_share": 0.25},
            },
        ),
    )
    yield Strategy(
        name="diff-mix",
        about="each image redrawn as another class, soft labels; in place of the real one at times",
        source="Wang et al. 2024, its few-shot scripts [C]; without its adapted generator",
        settings=_DIFF_MIX,
    )
    yield Strategy(
        name="saspa",
        about="along the edges of each image, by a ControlNet, in other scenes; replaces at times",
        source="Michaeli and Fried 2024, its script for aircraft [C]; without its filters",
        settings=over(
            _CLASS_PROMPTS,
            {
                "prompting": {"rewriter": "scenes"},
                "generation": {"start": "noise", "condition": "edges"},
                "training": {"sibling_replacement": 0.4, "synthetic_share": 0.0},
            },
        ),
    )
    yield Strategy(
        name="tada",
        about="images made once, early, from the third of each class that is not learned yet",
        source="Nguyen et al. 2025 [R]; a fixed share instead of clusters",
        settings=over(
            _CLASS_PROMPTS,
            {
                "agent": {"first_round_epoch": -1, "rounds_within": 0.25},
                "selection": {"by": "marginal", "share": 0.35, "per_class": True},
                "generation": {"strength": 0.5},
            },
        ),
    )
    yield Strategy(
        name="retrieval",
        about="no generator: the nearest images of your own unlabelled folder, found once",
        source="Geng et al. 2024 [R]; by image instead of by text",
        settings=over(
            _CLASS_PROMPTS,
            {"generation": {"generator": "retrieval"}, "adaptation": {"enabled": False}},
        ),
    )
    yield from _from_text()
    yield from _adapted()


def _adapted() -> Iterator[Strategy]:
    """Yield strategies whose generator is adapted to the real images first."""
    yield Strategy(
        name="da-fusion-tokens",
        about="da-fusion with a learned word for each class (textual inversion)",
        source="Trabucco et al. 2024, its scripts [C]",
        settings=over(
            _DA_FUSION,
            {
                "adaptation": {
                    **_PLAIN_LOSS,
                    "kind": "tokens",
                    "per_class": False,
                    "batch_size": 4,
                    "token_vectors": 1,
                    "token_steps": 1000,
                    "token_learning_rate": 2e-3,
                },
            },
        ),
    )
    yield Strategy(
        name="diff-mix-tokens",
        about="diff-mix with a LoRA and a learned word for each class",
        source="Wang et al. 2024, its scripts [C]; 50 epochs [I]",
        settings=over(
            _DIFF_MIX,
            {
                "adaptation": {
                    **_PLAIN_LOSS,
                    "kind": "lora+tokens",
                    "per_class": False,
                    "rank": 10,
                    "learning_rate": 5e-5,
                    "token_learning_rate": 5e-5,
                    "token_vectors": 1,
                    "batch_size": 8,
                    "epochs": 50,
                },
                "generation": {"lora_scale": 1.0},
            },
        ),
    )
    lora = {
        "adaptation": {
            **_PLAIN_LOSS,
            "kind": "lora",
            "per_class": False,
            "rank": 16,
            "epochs": 200,
        },
        "generation": {"start": "noise", "lora_scale": 1.0},
    }
    yield Strategy(
        name="datadream",
        about="the generator adapted to the real images of all classes, then text to image",
        source="Kim et al. 2024, its scripts [C], rank [R]; one LoRA for all classes",
        settings=over(_CLASS_PROMPTS, lora),
    )
    yield Strategy(
        name="datadream-cls",
        about="datadream with a LoRA for each class, on its images alone",
        source="Kim et al. 2024, its scripts [C], rank [R]",
        settings=over(
            _CLASS_PROMPTS,
            lora,
            {"adaptation": {"per_class": True, "sample_every_epochs": 0}},
        ),
    )
    yield Strategy(
        name="bob",
        about="as datadream, trained with captions; each image then gets the caption of any other",
        source="Yang et al. 2025 [R]; the LoRA of datadream",
        settings=over(over(REAL_FAKE, lora), {"prompting": {"rewriter": "contexts"}}),
    )


def _from_text() -> Iterator[Strategy]:
    """Yield text-to-image strategies, steered by the classifier."""
    yield Strategy(
        name="deliberate-practice",
        about="text to image in four early rounds, steered by the classifier's entropy",
        source="Askari-Hemmat et al. 2025 [R]; beside the real images",
        settings=over(
            _FROM_TEXT,
            {
                "agent": {"rounds": 4, "rounds_within": 0.5, "pool": "accumulate"},
                "selection": {"share": 0.5, "fresh": True},
            },
        ),
    )
    yield Strategy(
        name="feedback-guided",
        about="text to image once, after a quarter of the training, steered by entropy",
        source="Hemmat et al. 2023 [R]; its image conditioning is not here",
        settings=over(_FROM_TEXT, {"agent": {"first_round_epoch": -1, "rounds_within": 0.5}}),
    )
