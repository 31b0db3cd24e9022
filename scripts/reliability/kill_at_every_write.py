"""Kill a command, or fill its disk, before every durable write; resume; compare to the bit.

    python scripts/reliability/kill_at_every_write.py                 # all commands
    python scripts/reliability/kill_at_every_write.py run --kinds     # first and last of each kind
    python scripts/reliability/kill_at_every_write.py run --every 7   # a sample
    python scripts/reliability/kill_at_every_write.py adapt --fault full-disk --work /tmp/adapt

Each command works on a few small photographs with a generator of random weights; `reviewed` resumes
a run that was stopped after its first round, its images then decided by hand. It first runs to its
end and its durable writes are counted. Then, for each of them: run in a new folder, end just before
that write, check that no traceback was printed, resume as the command says, and compare every file
that must not depend on interruptions, to the bit. Outcomes are appended to WORK/attempts.jsonl;
started again with the same WORK, only the missing ones are made. Ends with 1 if one failed.

Needs a checkout with the development packages (make test installs them). An attempt is a fork of
this process, which has loaded everything, so that it takes as long as the command itself; the
workers of an experiment are forks too.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported
os.environ["HF_HUB_OFFLINE"] = "1"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.fault_injection import FULL_DISK, KILL, FaultInjector, counted  # noqa: E402

# further kinds of adaptation, as settings of it
ADAPTING: dict[str, dict[str, Any]] = {
    "adapt-words": {"kind": "tokens", "token_steps": 3, "token_learning_rate": 0.1},
    "adapt-classes": {"per_class": True},
}
COMMANDS = ("run", "adapt", *ADAPTING, "experiment", "reviewed")
VOLATILE = ("seconds", "created", "peak_memory_mib")  # keys whose values no two runs share
NOT_COMPARED = (
    "DONE", "sha256.jsonl", ".lock", "timing.json", "report.html", "rendered.jsonl",
    "results.parquet", "results.md", "results.html",
)  # fmt: skip
ADAPTED = 'like = "real-fake"\n[adaptation]\nenabled = true\n'  # a strategy
_LAZY = {  # what these libraries import when it is first asked for
    "diffusers": ("AutoPipelineForImage2Image", "AutoencoderKL", "UNet2DConditionModel"),
    "transformers": ("CLIPTextModel", "CLIPTokenizer", "CLIPImageProcessor"),
}
_SEAL = re.compile(rb"\A[0-9a-f]{64}\n")  # the hash of the rest, in files of a cache
FOLDERS_NOT_COMPARED = ("checkpoints", "plots", "captions")


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One command that failed before write number `at`, and was resumed; no problem = the same."""

    command: str
    fault: str
    at: int
    seconds: float
    problem: str = ""


class Watcher(Protocol):
    """Watches the process that a command becomes."""

    def install(self) -> None:
        """Start to watch."""
        ...


class Campaign:
    """All attempts at one command.

    Args:
        work: holds the photographs, the generator, the undisturbed outcome, and logs.
    """

    def __init__(self, command: str, work: Path) -> None:
        self.command, self.work = command, work
        self.out = work / "attempt" / "out"
        self.log = work / f"{command}.log"
        self.world = _World(work / "world")
        self._counter = work / f"{command}.count"

    def reference(self) -> tuple[dict[str, str], list[str]]:
        """Return the undisturbed outcome and the file of each durable write, made once."""
        path = self.work / f"{self.command}.json"
        if not path.exists():
            arguments = self.begin()
            if self.start(arguments, self.injector()):
                raise SystemExit(f"the undisturbed {self.command} failed; see {self.log}")
            found = {"writes": counted(self._counter), "outcome": outcome(self.out)}
            path.write_text(json.dumps(found), encoding="utf-8")
        found = json.loads(path.read_text(encoding="utf-8"))
        return found["outcome"], found["writes"]

    def attempt(self, at: int, fault: str, expected: dict[str, str]) -> Attempt:
        """Fail before write number `at`, resume, and compare."""
        started = time.monotonic()
        code = self.start(self.begin(), self.injector(at, fault))
        text = self.log.read_text(encoding="utf-8", errors="replace")
        problem = ""
        if "Traceback" in text:
            problem = f"traceback: {text.strip().splitlines()[-1]}"
        elif code:
            problem = self.resumed(expected)
        seconds = round(time.monotonic() - started, 2)
        return Attempt(command=self.command, fault=fault, at=at, seconds=seconds, problem=problem)

    def resumed(self, expected: dict[str, str]) -> str:
        """Resume what is in `out`; return what is not as expected, "" if all is."""
        arguments = self.world.resuming(self.command, self.out)
        if code := self.start(arguments, self.injector()):
            text = self.log.read_text(encoding="utf-8", errors="replace").strip()
            return f"resume ended with {code}: {' '.join(text.splitlines()[-3:])[:600]}"
        found = outcome(self.out)
        names = sorted(n for n in {*found, *expected} if found.get(n) != expected.get(n))
        if names:
            return f"{len(names)} files differ: {', '.join(names[:5])}"
        if left := [p.name for p in self.out.rglob(".*.tmp")]:
            return f"left behind: {', '.join(left[:5])}"
        return ""

    def injector(self, at: int = 0, fault: str = KILL) -> FaultInjector:
        """Return what fails before write number `at`; 0 = never."""
        self._counter.unlink(missing_ok=True)
        return FaultInjector(root=self.out, counter=self._counter, at=at, kind=fault)

    def begin(self) -> list[str]:
        """Remove what earlier attempts left; return the command line that starts the command."""
        self.clean()
        if self.command == "reviewed":
            shutil.copytree(self._reviewed_run(), self.out)
            return self.world.resuming("run", self.out)
        return self.world.arguments(self.command, self.out)

    def _reviewed_run(self) -> Path:
        """Return a run that was killed in its second round, its images decided by hand; made once.

        It is made in the folder of the attempts, since settings name its path.
        """
        ready = self.work / "reviewed-run"
        if not ready.exists():
            arguments = self.world.arguments("reviewed", self.out)
            self.start(arguments, self.injector())
            second = [name.startswith("rounds/001/") for name in counted(self._counter)].index(True)
            self.clean()
            self.start(arguments, self.injector(second + 1))
            decide_by_hand(self.out)
            shutil.copytree(self.out, ready)
            self.clean()
        return ready

    def start(self, arguments: Sequence[str], watcher: Watcher) -> int:
        """Run the command in a fork, watched; return its exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        child = os.fork()
        if not child:
            _become(arguments, watcher, self.log)
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    def clean(self) -> None:
        """Remove what earlier attempts left."""
        shutil.rmtree(self.out.parent, ignore_errors=True)
        self.out.parent.mkdir(parents=True)


def _become(arguments: Sequence[str], watcher: Watcher, log: Path) -> None:
    """Turn this forked process into the command; never returns."""
    code = 99
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        watcher.install()
        forks = multiprocessing.get_context("fork")
        multiprocessing.get_context = lambda method=None: forks  # type: ignore[assignment]
        sys.argv = ["gendataagent", *arguments]
        from gendataagent.cli import main

        try:
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
        except BaseException:
            import traceback

            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


class _World:
    """Photographs, a generator and settings on which each command takes seconds."""

    def __init__(self, folder: Path) -> None:
        from tests.small_world import settings_for, write_photos
        from tests.tiny_models import save_tiny_pipeline

        photos, generator = folder / "photos", folder / "tiny-random-sd"
        self._reviewed_photos = folder / "more-photos"  # coverage needs six validation images
        self._few_photos = folder / "few-photos"
        if not (folder / "COMPLETE").exists():
            shutil.rmtree(folder, ignore_errors=True)
            write_photos(photos)
            write_photos(self._reviewed_photos, validation=6)
            write_photos(self._few_photos, train=1, validation=1, test=1)
            save_tiny_pipeline(generator)
            (folder / "COMPLETE").touch()
        self._config = folder / "config.toml"
        self._adapted = folder / "adapted.toml"
        self._adapted.write_text(ADAPTED, encoding="utf-8")
        tree = settings_for(photos, generator).to_dict()
        tree["adaptation"] |= {
            "epochs": 2, "batch_size": 8, "measure_images": 4, "checkpoint_every_steps": 2,
            "sample_every_epochs": 1, "learning_rate": 1e-2,
        }  # fmt: skip
        self._tree = tree
        self._photos, self._generator = photos, generator

    def arguments(self, command: str, out: Path) -> list[str]:
        """Return the command line that starts the command."""
        from gendataagent.config import RunConfig

        if command == "experiment":
            chosen = {
                "device": "cpu", "generation.generator": self._generator,
                "generation.num_inference_steps": 2, "generation.chunk_size": 4,
                "training.epochs": 2, "training.steps_per_epoch": 1, "training.batch_size": 8,
                "training.warmup_epochs": 0, "training.checkpoint_every_epochs": 1,
                "training.evaluate_every_epochs": 1,
                "agent.rounds": 1, "agent.first_round_epoch": 1, "agent.rounds_within": 1.0,
                "adaptation.epochs": 1, "adaptation.batch_size": 4, "adaptation.measure_images": 2,
                "adaptation.checkpoint_every_steps": 1, "adaptation.sample_every_epochs": 1,
            }  # fmt: skip
            sets = [part for key, value in chosen.items() for part in ("--set", f"{key}={value}")]
            return ["experiment", "fewshot-cifar10", "--data", str(self._few_photos), "--arms",
                    f"gendataagent,{self._adapted}", "--seeds", "7-7", "--jobs", "1",
                    "--out", str(out), *sets]  # fmt: skip
        tree = json.loads(json.dumps(self._tree))
        if command == "run":
            tree["adaptation"]["enabled"] = True
            tree["agent"]["guard"] = True
        if command in ADAPTING:
            tree["adaptation"] |= ADAPTING[command]
            command = "adapt"
        if command == "reviewed":
            tree["data"]["path"] = str(self._reviewed_photos)
            tree["agent"] |= {"pool": "accumulate", "guard": False}
            tree["selection"] |= {"share": 0.5, "per_class": True}
            tree["prompting"]["rewrites"] = 1
            tree["filter"] |= {"by": "random", "drop_share": 0.25}
            command = "run"
        self._config.write_text(RunConfig.from_dict(tree).to_toml(), encoding="utf-8")
        return [command, "--config", str(self._config), "--out", str(out)]

    def resuming(self, command: str, out: Path) -> list[str]:
        """Return the command line that a user would give after the failure."""
        if command != "experiment" and (out / "config.toml").is_file():
            named = "run" if command == "reviewed" else command.partition("-")[0]
            return [named, "--resume", str(out)]
        return self.arguments(command, out)


def decide_by_hand(run: Path) -> None:
    """Drop an image of the first round that was kept, and keep one that was not."""
    from tests.agent.test_by_hand import decide

    from gendataagent.agent.by_hand.rules import DROP, KEEP
    from gendataagent.agent.pool import Pool
    from gendataagent.core.run_folder import RunFolder

    folder = RunFolder(run)
    candidates = Pool(folder, ()).candidates(0)
    decide(folder, DROP, next(candidate.id for candidate in candidates if candidate.kept))
    decide(folder, KEEP, next(candidate.id for candidate in candidates if not candidate.kept))


def one_of_each_kind(written: Sequence[str]) -> list[int]:
    """Return the first and the last write of each kind of file, numbered from 1.

    Files are of one kind if their paths differ in numbers and hashes alone.
    """
    of_kind: dict[str, list[int]] = {}
    for number, name in enumerate(written, start=1):
        kind = re.sub(r"[0-9a-f]{6,}|[0-9]+", "#", name)
        of_kind.setdefault(kind, []).append(number)
    return sorted({place for places in of_kind.values() for place in (places[0], places[-1])})


def outcome(out: Path) -> dict[str, str]:
    """Return the hash of each file that must not depend on interruptions."""
    found = {}
    for path in sorted(out.rglob("*")):
        name = path.relative_to(out)
        skipped = path.name in NOT_COMPARED or set(FOLDERS_NOT_COMPARED) & set(name.parts)
        if path.is_file() and not skipped:
            content = b"".join(_steady(path))
            found[name.as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def _steady(path: Path) -> Iterator[bytes]:
    """Yield the content of a file without what measures time and memory."""
    if path.suffix == ".json":
        content = _SEAL.sub(b"", path.read_bytes())
        yield json.dumps(_without_volatile(json.loads(content))).encode()
    elif path.suffix == ".jsonl":
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            row.pop("check", None)
            yield json.dumps(_without_volatile(row)).encode()
    else:
        yield path.read_bytes()


def _without_volatile(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_volatile(v) for k, v in value.items() if k not in VOLATILE}
    return [_without_volatile(item) for item in value] if isinstance(value, list) else value


def main() -> None:
    """Make the missing attempts of each command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(COMMANDS))
    parser.add_argument("--every", type=int, default=1, help="take every n-th write only")
    parser.add_argument(
        "--kinds", action="store_true", help="take the first and last write of each kind of file"
    )
    parser.add_argument("--first", type=int, default=1, help="the first write to take")
    parser.add_argument("--fault", choices=(KILL, FULL_DISK), default=KILL)
    parser.add_argument("--work", type=Path, default=Path("runs/kill-at-every-write"))
    options = parser.parse_args()
    unknown = [name for name in options.commands if name not in COMMANDS]
    if unknown or options.every < 1 or options.first < 1:
        parser.error(f"commands are {', '.join(COMMANDS)}; --every and --first are at least 1")
    preload()
    failed = 0
    for command in options.commands or COMMANDS:
        failed += _all_attempts(Campaign(command, options.work.resolve()), options)
    raise SystemExit(1 if failed else 0)


def _all_attempts(campaign: Campaign, options: argparse.Namespace) -> int:
    """Make the missing attempts of a command; return how many of all have failed."""
    campaign.work.mkdir(parents=True, exist_ok=True)
    journal = campaign.work / "attempts.jsonl"
    lines = journal.read_text(encoding="utf-8").splitlines() if journal.exists() else []
    known = {(row["command"], row["fault"], row["at"]): row for row in map(json.loads, lines)}
    expected, written = campaign.reference()
    places = one_of_each_kind(written) if options.kinds else range(1, len(written) + 1)
    places = [place for place in places if place >= options.first][:: options.every]
    print(
        f"{campaign.command}: {len(written)} durable writes, {len(places)} attempts, "
        f"{options.fault}",
        flush=True,
    )
    failed = 0
    for done, at in enumerate(places, start=1):
        row = known.get((campaign.command, options.fault, at))
        if row is None:
            row = asdict(campaign.attempt(at, options.fault, expected))
            with open(journal, "a", encoding="utf-8") as stream:
                stream.write(json.dumps(row) + "\n")
        failed += bool(row["problem"])
        found = row["problem"] or "the same to the bit"
        print(
            f"  {done}/{len(places)}  before write {at}, {written[at - 1]}: {found} "
            f"({row['seconds']} s)",
            flush=True,
        )
    print(f"{campaign.command}: {failed} of {len(places)} failed", flush=True)
    return failed


def preload() -> None:
    """Import what every attempt needs, but compute nothing: threads do not survive a fork."""
    for name in ("gendataagent.experiments", "gendataagent.generation.adaptation",
                 "gendataagent.generation.diffusion.generator", "gendataagent.runs.run",
                 "matplotlib.figure", "peft"):  # fmt: skip
        importlib.import_module(name)
    for library, names in _LAZY.items():
        for name in names:
            getattr(importlib.import_module(library), name)


if __name__ == "__main__":
    main()
