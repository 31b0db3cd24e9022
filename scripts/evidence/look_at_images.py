"""Statistics of an experiment's synthetic images: sources, class balance, recognised as labelled.

    python look_at_images.py OUT --judge FILE.pth [--arms real-fake,gendataagent] > images.md

`OUT` is the folder of `gendataagent experiment`; `--judge` the weights described in
judge_network.py, an independent classifier trained on all of CIFAR-10. Prints a table, per arm as
mean over its seeds: images, distinct source images, share of the largest and the smallest class,
share recognised as their class, and the same among kept images.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter, defaultdict
from pathlib import Path
from statistics import fmean

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "bundle"))

from judge_network import ResNet56, classify, load_judge

from gendataagent.agent.pool import Pool
from gendataagent.core.records import RunManifest
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.experiments import read_rows
from gendataagent.runs.results import read_result

AT_MOST = 200  # images of a round that are classified, evenly spaced


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder of an experiment")
    parser.add_argument("--judge", type=Path, required=True)
    parser.add_argument("--arms", help="comma-separated subset")
    arguments = parser.parse_args()
    judge = load_judge(arguments.judge)
    wanted = set(arguments.arms.split(",")) if arguments.arms else None
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for row in read_rows(arguments.out / "results.parquet"):
        if row["generated"] and (wanted is None or row["arm"] in wanted):
            found[row["arm"]].append(look(arguments.out / "runs" / row["run"], judge))
    head = ["images", "sources", "of the class with most %", "with least %", "recognised %",
            "of those kept %"]  # fmt: skip
    print(f"| arm | seeds | {' | '.join(head)} |\n|{'---|' * (len(head) + 2)}")
    for arm, seeds in found.items():
        cells = [f"{fmean(seed[name] for seed in seeds):.{0 if name in head[:2] else 1}f}"
                 for name in head]  # fmt: skip
        print(f"| {arm} | {len(seeds)} | {' | '.join(cells)} |")


def look(folder: Path, judge: ResNet56) -> dict[str, float]:
    """Return the figures of one run."""
    run = RunFolder.open(folder)
    class_names = read_record(RunManifest, run.manifest_file).class_names
    pool = Pool(run, class_names)
    made, right, kept = [], [], []
    for record in read_result(folder).rounds:
        candidates = [c for c in pool.candidates(record.round) if c.rejected_by != "black-image"]
        made += candidates
        judged = candidates[:: max(1, len(candidates) // AT_MOST)]
        classes = classify(judge, [pool.image(candidate) for candidate in judged])
        right += [found == c.label for found, c in zip(classes, judged, strict=True)]
        kept += [candidate.kept for candidate in judged]
    of_class = Counter(candidate.label for candidate in made)
    shares = [of_class[label] / len(made) for label in range(len(class_names))]
    return {
        "images": len(made),
        "sources": len({candidate.source_id for candidate in made}),
        "of the class with most %": 100 * max(shares),
        "with least %": 100 * min(shares),
        "recognised %": 100 * float(np.mean(right)),
        "of those kept %": 100 * float(np.mean(np.array(right)[np.array(kept)])),
    }


if __name__ == "__main__":
    main()
