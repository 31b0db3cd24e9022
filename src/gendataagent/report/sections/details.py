"""The end of the page: unreadable files, splits, settings, environment, next steps."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from gendataagent.report.markup import count, details, esc, name, plural, section, table
from gendataagent.report.run_view import RunView

FILES_SHOWN = 200
SPLIT_ORDER = ("train", "validation", "test")


def quarantine(run: RunView) -> str:
    """Return the unreadable files, with the reason."""
    if not run.quarantine:
        return ""
    rows = [[name(file), esc(reason)] for file, reason in run.quarantine[:FILES_SHOWN]]
    hidden = len(run.quarantine) - FILES_SHOWN
    more = (
        f'<p class="quiet">and {count(hidden)} more; data/quarantine.jsonl lists all</p>'
        if hidden > 0
        else ""
    )
    return section(
        "quarantine",
        "Unreadable files",
        table(["file", "reason"], rows, caption="Unreadable files", numeric=False) + more,
        lead=f"{plural(len(run.quarantine), 'file')} left out of all splits.",
    )


def splits(run: RunView) -> str:
    """Return the number of images per split and class."""
    totals = dict(run.manifest.images_per_split)
    found = {split for counts in run.class_counts.values() for split in counts} | set(totals)
    order = [split for split in SPLIT_ORDER if split in found]
    order += sorted(found - set(order))
    if not order:
        return ""
    items = "".join(
        f'<li class="card"><b>{count(_total(run, split))}</b><span>{name(split)}</span></li>'
        for split in order
    )
    rows = [
        [name(label), *(count(counts.get(split, 0)) for split in order)]
        for label, counts in sorted(run.class_counts.items())
    ]
    per_class = (
        details(
            "Images per class",
            table(["class", *map(name, order)], rows, caption="Images per class and split"),
        )
        if rows
        else ""
    )
    return section("data", "Real images", f'<ul class="cards">{items}</ul>{per_class}')


def _total(run: RunView, split: str) -> int:
    listed = sum(counts.get(split, 0) for counts in run.class_counts.values())
    return listed or int(run.manifest.images_per_split.get(split, 0))


def settings(run: RunView) -> str:
    """Return the settings that differ from the default, then all settings."""
    changed = [row for row in run.settings.values() if row.value != row.default]
    rows = [
        [f"<code>{esc(row.key)}</code>", f"<b>{_value(row.value)}</b>", _value(row.default),
         esc(row.setting.help)]
        for row in changed
    ]  # fmt: skip
    rows += [
        [f"<code>{esc(key)}</code>", _value(value), "", "unknown to this version"]
        for key, value in run.unknown_settings.items()
    ]
    everything = [
        [
            f"<code>{esc(row.key)}</code>",
            f'<b class="changed">{_value(row.value)}</b>' if row in changed else _value(row.value),
            esc(row.setting.unit),
            esc(row.setting.source),
            esc(row.setting.help),
        ]
        for row in run.settings.values()
    ]
    head = ["setting", "value", "unit", "source", "meaning"]
    body = (
        table(["setting", "value", "default", "meaning"], rows, caption="Changed settings",
              numeric=False)
        if rows
        else "<p>All settings have their default values.</p>"
    )  # fmt: skip
    body += details(
        f"All {plural(len(everything), 'setting')}",
        table(head, everything, caption="All settings", numeric=False),
    )
    return section(
        "settings", "Settings", body, lead="Settings that differ from the default." if rows else ""
    )


def environment(run: RunView) -> str:
    """Return the manifest: seed, hashes, models, machine and package versions."""
    facts: dict[str, Any] = {
        key: value
        for key, value in asdict(run.manifest).items()
        if key not in ("class_names", "environment", "notes", "images_per_split")
    }
    facts["class_names"] = ", ".join(run.manifest.class_names)
    body = details("Manifest", _facts(facts, "Manifest")) + details(
        "Software and hardware", _facts(run.manifest.environment, "Software and hardware")
    )
    return section("environment", "Environment", body)


def _facts(facts: Mapping[str, Any], caption: str) -> str:
    rows = [[name(key), _value(value)] for key, value in facts.items()]
    return table(["entry", "value"], rows, caption=caption, numeric=False)


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return esc(" ".join(str(part) for part in value.values() if part))
    if isinstance(value, tuple | list):
        return esc(", ".join(map(str, value)))
    if isinstance(value, bool):
        return "true" if value else "false"
    return esc("none" if value in (None, "") else value)


def next_steps(run: RunView) -> str:
    """Return how to load the kept images, and how to resume or evaluate the run."""
    folder = run.folder.as_posix()
    parts = []
    if run.by_hand:
        parts.append(
            "<h3>Export the kept images, decisions by hand included</h3><pre tabindex='0'><code>"
            f"gendataagent export-data {esc(shlex.quote(folder))} --to parquet --only kept "
            "--out kept</code></pre>"
        )
    elif run.kept:
        load = (
            'load_dataset("imagefolder", '
            f'data_dir={folder + "/pool"!r}, split="train").filter(lambda row: row["kept"])'
        )
        parts.append(
            "<h3>Load the kept images</h3><pre tabindex='0'><code>"
            "from datasets import load_dataset\n\n"
            f"kept = {esc(load)}</code></pre>"
        )
    quoted = esc(shlex.quote(folder))
    resume = "Resume the run" if not run.finished else "Evaluate, or write this page again"
    commands = (
        f"gendataagent run --resume {quoted}"
        if not run.finished
        else f"gendataagent evaluate {quoted}\ngendataagent report {quoted}"
    )
    parts.append(f"<h3>{resume}</h3><pre tabindex='0'><code>{commands}</code></pre>")
    return section("next", "Next steps", "".join(parts))
