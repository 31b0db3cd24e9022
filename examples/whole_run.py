"""One call: train on your images with the agent, and read the results.

python examples/whole_run.py photos/ runs/first
python examples/whole_run.py bundled:cifar10 runs/first training.epochs=6 agent.rounds=2
"""

import sys

from gendataagent import RunConfig, run, write_report
from gendataagent.cli.console import ConsoleProgress
from gendataagent.config.settings import apply_overrides


def main(data: str, out: str, *overrides: str) -> None:
    config = RunConfig.from_dict(apply_overrides({"data": {"path": data}}, overrides))
    result = run(config, out, progress=ConsoleProgress())
    test = result.evaluations["test"]
    print(f"top-1 {test.top1:.1%}, worst class {test.worst_class} {test.worst_class_accuracy:.1%}")
    print(f"{result.images_made} images made, {result.images_kept} kept")
    print(f"page: {write_report(result.path)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
