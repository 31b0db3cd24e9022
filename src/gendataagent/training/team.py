"""The processes that train together: the main process leads, the others help.

A helper only trains: for each epoch it gets weights and momentum from the leader, and for each step
images and targets. Between epochs it waits, for as long as evaluation and rounds take, and holds no
model. All end when one fails, and when the leader ends, however it ends.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import multiprocessing
import os
import pickle
import shutil
import signal
import socket
import tempfile
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed

from gendataagent.config import TrainingConfig
from gendataagent.core.devices import free_memory
from gendataagent.core.errors import (
    ConfigError,
    GenDataAgentError,
    ModelError,
    TrainingProcessError,
)
from gendataagent.core.processes import PATIENCE_S, interrupts_blocked, start_worker
from gendataagent.training.classifier import Classifier
from gendataagent.training.sharing import LEADER, Part
from gendataagent.training.trainer import Step, Trainer

# Not a limit: a process that ends is noticed, and reading a batch may take long.
_TIMEOUT = datetime.timedelta(days=30)
_GRACE_S = 2.0  # in which a failure of a helper that broke a step becomes known
# Gloo and NCCL choose a network otherwise, which others may reach.
_INTERFACE_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
_LOOPBACK = next((name for _, name in socket.if_nameindex() if name in ("lo", "lo0")), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """The classifier for the helpers; its module pickled."""

    module: bytes
    config: TrainingConfig
    class_names: tuple[str, ...]
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def of(cls, trainer: Trainer) -> _Model:
        classifier, pickled = trainer.classifier, io.BytesIO()
        try:
            torch.save(classifier.module, pickled)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ModelError(
                f"the classifier's {type(classifier.module).__name__} cannot be sent to other "
                f"processes ({error}); set training.processes=1"
            ) from error
        return cls(
            module=pickled.getvalue(),
            config=trainer.config,
            class_names=classifier.class_names,
            size_px=classifier.size_px,
            mean=classifier.mean,
            std=classifier.std,
        )

    def trainer(self, device: torch.device, seed: int) -> Trainer:
        module = torch.load(io.BytesIO(self.module), map_location=device, weights_only=False)
        classifier = Classifier(
            module,
            class_names=self.class_names,
            size_px=self.size_px,
            mean=self.mean,
            std=self.std,
            device=device,
        )
        return Trainer(classifier, self.config, seed=seed)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Epoch:
    """One epoch for the helpers; the tensors of the trainer's state follow.

    Args:
        shapes: name -> shape and dtype of each tensor.
    """

    number: int
    seed: int
    steps: list[Step]
    shapes: dict[str, tuple[torch.Size, torch.dtype]]
    state: dict[str, Any]


class Team:
    """Trains with `processes` processes, this one included; a `trainer.Partners`.

    The others are started at the first epoch: on the CPU, or on the CUDA devices after this one's.
    """

    def __init__(self, processes: int, device: torch.device | str) -> None:
        self.processes, self._device = processes, torch.device(device)
        if self._device.type == "cuda":
            self._device = torch.device("cuda", self._device.index or 0)
        self._helpers: list[tuple[BaseProcess, Connection]] = []
        self._trainer: Trainer | None = None
        self._folder: Path | None = None
        self._ends = threading.Event()

    @contextlib.contextmanager
    def epoch(
        self, trainer: Trainer, epoch: int, steps: Sequence[Step]
    ) -> Iterator[Callable[[int], Part]]:
        """Let the helpers take part in an epoch; see `trainer.Partners`.

        Raises:
            TrainingProcessError: a helper ended. What else a helper raised is raised here.
        """
        try:
            if self._trainer is not trainer or not all(p.is_alive() for p, _ in self._helpers):
                self._end()  # one that ended since the last epoch held nothing
                self._start(trainer)
            tensors, state = trainer.state()
            tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
            shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
            job = _Epoch(
                number=epoch, seed=trainer.seed, steps=list(steps), shapes=shapes, state=state
            )
            for _, connection in self._helpers:
                connection.send(job)
            for tensor in tensors.values():
                distributed.broadcast(_as_bytes(tensor), src=LEADER)
            yield partial(Part, LEADER, self.processes)
            self._receive()
        except (GenDataAgentError, KeyboardInterrupt):
            self._end()
            raise
        except BaseException as error:
            cause = self._failure()
            self._end()
            if cause is None:
                raise
            raise cause from error

    def close(self) -> None:
        """End the helpers, in order."""
        self._ends.set()
        for _, connection in self._helpers:
            connection.close()
        if self._helpers:
            distributed.destroy_process_group()
        for process, _ in self._helpers:
            process.join(PATIENCE_S)
        self._clean_up()

    def _start(self, trainer: Trainer) -> None:
        if distributed.is_initialized():
            raise ConfigError(
                "training.processes: this process is in a group of torch.distributed already; set "
                "training.processes=1"
            )
        model = _Model.of(trainer)
        self._folder = Path(tempfile.mkdtemp(prefix="gendataagent-"))
        context = multiprocessing.get_context("spawn")
        for rank in range(1, self.processes):
            ours, theirs = context.Pipe()
            place = _Place(rank, self.processes, self._device_of(rank), self._folder)
            arguments = (theirs, place, torch.get_num_threads())
            helper = context.Process(target=_help, args=arguments, daemon=True)
            with interrupts_blocked():
                helper.start()
            theirs.close()
            self._helpers.append((helper, ours))
        self._receive()  # each has imported torch
        for _, connection in self._helpers:
            connection.send(model)
        self._join(_Place(LEADER, self.processes, self._device, self._folder))
        self._receive()
        self._trainer = trainer
        if self._device.type == "cuda":
            self._ends = threading.Event()
            watch = partial(_abort_when_one_ends, self._sentinels(), self._ends)
            threading.Thread(target=watch, daemon=True).start()
        else:
            self._remove_folder()  # gloo is connected; NCCL reads it later

    def _device_of(self, rank: int) -> torch.device:
        if self._device.type != "cuda":
            return self._device
        return torch.device("cuda", (self._device.index or 0) + rank)  # `processes_of` checks

    def _join(self, place: _Place) -> None:
        """Join the group in a thread, because nothing would end that if a helper ended."""
        failures: list[Exception] = []

        def join() -> None:
            try:
                place.join()
            except Exception as error:
                failures.append(error)

        joining = threading.Thread(target=join, daemon=True)
        joining.start()
        while joining.is_alive():
            joining.join(0.05)
            for helper in self._helpers:
                if not helper[0].is_alive():
                    _receive(*helper)
        if failures:
            raise failures[0]

    def _receive(self) -> None:
        """Wait until every helper has reported; raise what one that failed reports."""
        for helper in self._helpers:
            _receive(*helper)

    def _sentinels(self) -> list[int]:
        return [process.sentinel for process, _ in self._helpers]

    def _failure(self) -> Exception | None:
        """Return why a helper broke a step; None if none did."""
        wait([*(connection for _, connection in self._helpers), *self._sentinels()], _GRACE_S)
        reports = []
        for process, connection in self._helpers:
            with contextlib.suppress(EOFError, OSError):
                if connection.poll() and (report := connection.recv()) is not None:
                    reports.append(report)
                    continue
            process.join(0.1)
            if process.exitcode:
                return _lost(process)  # the others only lost their connection to it
        own = [report for report in reports if isinstance(report, GenDataAgentError)]
        return next(iter([*own, *reports]), None)

    def _end(self) -> None:
        """End the helpers now."""
        self._ends.set()
        for process, connection in self._helpers:
            process.kill()
            connection.close()
        for process, _ in self._helpers:
            process.join()
        if self._helpers and distributed.is_initialized():
            if self._device.type == "cuda":
                distributed.distributed_c10d._abort_process_group()
            else:
                distributed.destroy_process_group()
        self._clean_up()

    def _clean_up(self) -> None:
        for process, _ in self._helpers:
            if process.is_alive():
                process.kill()
        self._helpers, self._trainer = [], None
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None


def _as_bytes(tensor: Tensor) -> Tensor:
    """Return a contiguous tensor of any dtype as one that every backend can send."""
    return tensor.reshape(-1).view(torch.uint8)


def _receive(process: BaseProcess, connection: Connection) -> None:
    wait([connection, process.sentinel])
    try:
        failure = connection.recv() if connection.poll() else _lost(process)
    except (EOFError, OSError):
        failure = _lost(process)
    if failure is not None:
        raise failure


def _lost(process: BaseProcess) -> TrainingProcessError:
    process.join(PATIENCE_S)
    code = process.exitcode or 0
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    often = ", most often because memory ran out" if code == -9 else ""
    return TrainingProcessError(
        f"a training process (pid {process.pid}) {how}{often}; lower training.batch_size or "
        "training.processes, then continue with --resume"
    )


def _abort_when_one_ends(sentinels: Sequence[int], wanted: threading.Event) -> None:
    """Break the step of this process when a helper ends unasked: NCCL would wait for ever."""
    wait(sentinels)
    if not wanted.is_set():
        distributed.distributed_c10d._abort_process_group()


@dataclass(frozen=True, slots=True)
class _Place:
    """The place of a process in the group."""

    rank: int
    processes: int
    device: torch.device
    folder: Path

    def join(self) -> None:
        """Join torch's default process group, on this machine alone."""
        on_gpu = self.device.type == "cuda"
        for name in _INTERFACE_VARIABLES:
            if _LOOPBACK is not None:
                os.environ.setdefault(name, _LOOPBACK)
        try:
            if on_gpu:
                torch.cuda.set_device(self.device)
                os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")  # `Team` watches
            distributed.init_process_group(
                "nccl" if on_gpu else "gloo",
                init_method=(self.folder / "group").as_uri(),
                rank=self.rank,
                world_size=self.processes,
                timeout=_TIMEOUT,
            )
        except Exception as error:  # torch raises several kinds
            # Torch has counted this group, and would give the next one a name that others do not.
            distributed.distributed_c10d._world.group_count = 0
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise TrainingProcessError(
                f"the training processes cannot reach each other on this machine: {reason}. Unset "
                f"{' and '.join(_INTERFACE_VARIABLES)} if they are set, or set "
                "training.processes=1"
            ) from error


def _help(connection: Connection, place: _Place, threads: int) -> None:
    """Take part in the epochs of a leader until it closes the connection: a process's main."""
    start_worker()
    warnings.simplefilter("ignore")  # the leader shows them
    torch.set_num_threads(threads)
    try:
        connection.send(None)
        model = connection.recv()
        place.join()
        while True:
            connection.send(None)
            try:
                job = connection.recv()
            except EOFError:
                break
            _take_part(model, job, place)
            free_memory()
        distributed.destroy_process_group()
    except Exception as error:
        with contextlib.suppress(OSError):
            connection.send(_portable(error, place.rank))


def _take_part(model: _Model, job: _Epoch, place: _Place) -> None:
    trainer = model.trainer(place.device, job.seed)
    tensors = {
        name: torch.empty(shape, dtype=dtype, device=place.device)
        for name, (shape, dtype) in job.shapes.items()
    }
    for tensor in tensors.values():
        distributed.broadcast(_as_bytes(tensor), src=LEADER)
    trainer.load_state(tensors, job.state)
    trainer.follow_epoch(job.number, job.steps, partial(Part, place.rank, place.processes))


def _portable(error: Exception, rank: int) -> Exception:
    """Return an error that can be sent, with where it was raised."""
    where = f"in training process {rank + 1}:\n{traceback.format_exc()}"
    try:
        portable: Exception = pickle.loads(pickle.dumps(error))
    except Exception:  # whatever its own code raises
        portable = RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note(where)
    return portable
