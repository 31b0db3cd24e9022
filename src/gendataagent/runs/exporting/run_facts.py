"""What a card says of the run an export comes from: data, images made, models, results, terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gendataagent.config import RunConfig
from gendataagent.config.paths import is_place
from gendataagent.config.run_config_file import read_run_config
from gendataagent.config.settings import iterate_settings
from gendataagent.core.records import ModelDescription, RunManifest
from gendataagent.core.run_folder import RunFolder
from gendataagent.runs.exporting.markdown import bullets, table, text
from gendataagent.runs.results import RunResult, read_result

_OPENRAIL = "CreativeML Open RAIL-M, which forbids some uses and must be passed on"
_BUNDLED = "tiny-sd"
_TERMS = {
    "stable-diffusion-v1-4": _OPENRAIL,
    "stable-diffusion-v1-5": _OPENRAIL,
    "stable-diffusion-xl-base-1.0": "CreativeML Open RAIL++-M, which forbids some uses and must "
    "be passed on",
    _BUNDLED: "bundled with gendataagent (Apache-2.0); trained on CIFAR-10, whose authors state "
    "no licence",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """What is known of a run.

    Args:
        manifest: None for an agent in a training loop of the user's.
        result: None for a run that is not finished.
        generator: what made the synthetic images, if known.
        data: the name of the data, without the path to it.
        classifier: what training started from, without the path to it.
    """

    config: RunConfig
    manifest: RunManifest | None
    result: RunResult | None
    generator: ModelDescription | None
    data: str
    classifier: str

    @classmethod
    def of(cls, folder: RunFolder) -> RunFacts:
        """Read the facts of a run folder."""
        config = read_run_config(folder)
        manifest = folder.read_manifest() if folder.manifest_file.exists() else None
        return cls(
            config=config,
            manifest=manifest,
            generator=manifest.generator if manifest and config.agent.enabled else None,
            result=read_result(folder.path) if folder.is_done else None,
            data=_name_of(config, "data.path") or "a data set given in Python",
            classifier=_name_of(config, "classifier.model"),
        )

    @property
    def run(self) -> str:
        """The hash of the run's settings, as in the provenance of its images; "" if unknown."""
        return self.manifest.config_hash if self.manifest else ""

    def results(self) -> str:
        """Return the table of test results as Markdown; "" without results."""
        if self.result is None or "test" not in self.result.evaluations:
            return ""
        runs = {"this model": self.result}
        if self.result.baseline is not None:
            runs["the same training without synthetic images"] = self.result.baseline
        tests = [run.evaluations["test"] for run in runs.values()]
        rows = [
            ["images", *(f"{test.images:,}" for test in tests)],
            ["top-1", *(f"{test.top1:.1%}" for test in tests)],
            [
                "worst class",
                *(
                    f"{t.worst_class_accuracy:.1%} ({t.worst_class}{t.others_as_bad})"
                    for t in tests
                ),
            ],
            ["log-loss", *(f"{test.loss:.3f}" for test in tests)],
            ["calibration error (ECE)", *(f"{test.ece:.3f}" for test in tests)],
        ]
        found = table(["test split", *runs], rows)
        return f"{found}\n\n{text(self.result.guard.sentence)}" if self.result.guard else found

    def models(self) -> str:
        """Return the models that made the synthetic images, as Markdown; "" if unknown."""
        made_by = {
            "generator": self.generator,
            "captions of the real images": self.manifest.captioner if self.manifest else None,
            "rewritten captions": self.manifest.rewriter if self.manifest else None,
        }
        rows = [[what, _described(model)] for what, model in made_by.items() if model is not None]
        return table(["", "model"], rows) if self.generator is not None else ""

    def terms(self) -> str:
        """Return what is known of licence terms, as Markdown."""
        lines = [
            f"Real images ({text(self.data)}): their terms are not known to the software that "
            "wrote this card. Fill them in before you share this.",
        ]
        if self.data.startswith("bundled:cifar10"):
            lines = [
                "Real images: CIFAR-10, whose authors ask for a citation and state no licence."
            ]
        if self.generator is not None:
            lines.append(f"Synthetic images: {_terms_of(self.generator)}.")
        return bullets(lines)


def _name_of(config: RunConfig, key: str) -> str:
    """Return the value of a setting; of a path only the last part, for a card may be published."""
    (row,) = (row for row in iterate_settings(config) if row.key == key)
    return Path(row.value).name if is_place(row) else str(row.value)


def _described(model: ModelDescription) -> str:
    return f"{model.name} ({model.revision})" if model.revision else model.name


def _terms_of(generator: ModelDescription) -> str:
    name = generator.name.rpartition("/")[2]
    if name in _TERMS and ("/" in generator.name or name == _BUNDLED):  # not of any folder
        return f"made by {text(generator.name)}: {_TERMS[name]}"
    if generator.name.count("/") == 1:
        return (
            f"made by {text(generator.name)}: its terms are on "
            f"https://huggingface.co/{text(generator.name)}"
        )
    return f"made by {text(generator.name)}, whose terms are not known to this software"
