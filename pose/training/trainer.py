"""A training run from parameters to model weights: data, checkpoints, validation and tracking."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pose.data.loader import raise_on_dead_worker
from pose.inference.batches import predict_batches, select_device
from pose.io.errors import Interrupted, UserError
from pose.io.files import file_hash, file_signature, remove_stale_temp_files
from pose.io.paths import TaskPaths
from pose.io.schema import flatten
from pose.io.torch_file import load_tensors
from pose.models.sync_norm import convert_sync_batch_norm
from pose.models.weights import Weights, save_weights
from pose.params import Params
from pose.tasks.fingerprint import HASHES, fingerprint
from pose.tasks.task import build_task, load_model
from pose.tracking.base import NullTracker, RunInfo, Status, Tracker
from pose.training.checkpoint import Checkpoint, CheckpointManager
from pose.training.code_version import code_digest
from pose.training.compute import compute_settings, explain_torch_errors
from pose.training.data import TrainingData, Validator
from pose.training.distributed import Ranks, is_first_process, process_group
from pose.training.environment import environment, merge_environments
from pose.training.history import write_history
from pose.training.lock import lock_folder
from pose.training.loop import TrainerConfig, TrainerState, fit

log = logging.getLogger(__name__)

LOG_EVERY = 20  # steps that a row of train.csv is the mean of
StepCallback = Callable[[int, Mapping[str, float]], None]


def train(
    params: Params,
    name: str,
    *,
    folder: str | Path = ".",
    prepared: Path | None = None,
    max_steps: int | None = None,
    tracker: Tracker | None = None,
    on_step: StepCallback | None = None,
) -> dict[str, float]:
    """Train one task to the end, resuming from its checkpoint if there is one; return its metrics.

    Under torchrun this process is one of several. Writes to `folder` alone (models/, checkpoints/,
    metrics/plots/), but for what the tracker writes.

    prepared: the prepared set, if it is not where the stages put it. max_steps: fewer steps than the epochs
    have; the learning rate's schedule is then that of so short a run. tracker: receives the history. on_step:
    is called on every process with the number of each step and its loss terms.

    The metrics are the monitored ones of the last validation, by name, and `best`, the highest value of the
    first of them. UserError for data, parameters or a folder that cannot be used; Interrupted on SIGTERM or
    Ctrl-C, after a checkpoint was written.
    """
    paths = TaskPaths(name, Path(folder))
    lock = lock_folder(paths.checkpoints) if is_first_process() else nullcontext()
    with lock, compute_settings(params), process_group(params.train.timeout) as ranks:
        trainer = Trainer(params, name, paths, prepared, ranks, max_steps, tracker or NullTracker(), on_step)
        if ranks.is_main:
            for written in (trainer.checkpoints.folder, paths.checkpoints, paths.models, paths.plots):
                remove_stale_temp_files(written)
        try:
            return trainer.run()
        except Interrupted:
            if ranks.is_main:
                raise
            sys.exit(1)  # the first process prints why


class Trainer:
    """One process's part in one run: resume, train, save checkpoints, write the model weights."""

    def __init__(
        self,
        params: Params,
        name: str,
        paths: TaskPaths,
        prepared: Path | None,
        ranks: Ranks,
        max_steps: int | None,
        tracker: Tracker,
        on_step: StepCallback | None,
    ):
        self.params, self.name, self.paths, self.ranks = params, name, paths, ranks
        self.spec = params.task(name)
        self.data = TrainingData.load(params, name, processes=ranks.count, prepared=prepared)
        self.source = params.data_source(name)
        skeleton = self.data.data.skeleton
        self.task = build_task(params, name, skeleton=skeleton, device=select_device())
        self.precision = "bfloat16" if self.task.autocast else "float32"
        self._data_signature = self._read_data_signature()
        # Large sets take minutes to read, and longer if all processes of a machine do so at a time.
        data_hash = ranks.once_per_machine(lambda: file_hash(*self.data.data.files))
        transfer = self.task.transfer
        shape = fingerprint(params, name, data_hash, transfer.hash if transfer else "")
        # With what `precision: auto` stands for on this device.
        self.fingerprint = shape | {"train.precision": self.precision}
        self.code = code_digest(self.spec.problem)
        # No part of the fingerprint, but they decide at which steps the processes exchange what.
        intervals = {"epochs": self.spec.epochs, "checkpoint_every": params.train.checkpoint_every}
        ranks.assert_same_on_all_ranks(self.fingerprint | intervals | {"code": self.code})
        tags = self.spec.problem == "multi"
        self.environment = environment(
            self.task.device, processes=ranks.count, epochs=self.spec.epochs, tags=tags
        )
        self.checkpoints = CheckpointManager(paths.checkpoints, self.spec.problem, self.fingerprint)
        self.validator = Validator(self.task, self.data, ranks, params.evaluate.batch)
        self.tracker = tracker if ranks.is_main else NullTracker()
        self.state = TrainerState()
        self.best: dict[str, Tensor] | None = None  # tensors of the best weights, in the first process
        self._on_step = on_step
        per_epoch = self.data.steps_per_epoch
        steps = self.spec.epochs * per_epoch
        self.config = TrainerConfig(
            steps=min(steps, max_steps or steps),
            steps_per_epoch=per_epoch,
            log_every=LOG_EVERY,
            validate_every=self.spec.validate_every * per_epoch,
            checkpoint_every=params.train.checkpoint_every,
            checkpoint_seconds=60 * params.train.checkpoint_minutes,
            seed=params.seed,
        )

    def run(self) -> dict[str, float]:
        """Resume or begin, train, write the model weights; the metrics of the last validation."""
        resumed = self._resume()
        if self.ranks.is_main:
            self.checkpoints.mark_unfinished()
        self._log_start()
        status: Status = "FAILED"
        self.tracker.start(self._run_info(resumed))
        try:
            self._wrap_networks()
            loader = self.data.loader(self.state.step, self.config.steps, self.ranks)
            with raise_on_dead_worker(), explain_torch_errors(self.task, self.ranks.count):
                fit(self.task, loader, self.config, self.state, self)
            if self.ranks.is_main:
                self._write_outputs()
            status = "FINISHED"
        except (Interrupted, KeyboardInterrupt):
            status = "KILLED"
            raise
        finally:
            self.tracker.finish(status)
        metrics = {key: value for key, value in self.state.val[-1].items() if key not in ("step", "epoch")}
        return metrics | {"best": self.state.best}

    # Called by the loop

    def on_step(self, step: int, terms: dict[str, float]) -> None:
        """Pass the terms of a step on to the caller of `train`."""
        if self._on_step:
            self._on_step(step, terms)

    def on_row(self, row: dict[str, float]) -> None:
        """Pass a row of the history on to the tracker."""
        self.tracker.log(row)

    def validate(self) -> dict[str, float]:
        """Metrics of the network as it is now."""
        return self.validator.validate()

    def sample_names(self, step: int) -> list[str]:
        """The samples of that step, on all ranks, by name."""
        return self.data.sample_names(step)

    def keep_best(self) -> None:
        """Keep a copy of the weights as the best so far."""
        if self.ranks.is_main:
            state = self.task.averaged().net.state_dict()
            self.best = {name: tensor.to("cpu", copy=True) for name, tensor in state.items()}

    def save(self) -> None:
        """Write a checkpoint, and the history up to here."""
        if not self.ranks.is_main:
            return
        try:
            self.checkpoints.save(
                environment=self.environment,
                net=self.task.net.state_dict(),
                optimizer=self.task.optimizer.state_dict(),
                adversary=self.task.adversary.state_dict() if self.task.adversary else None,
                average=self.task.average.state_dict() if self.task.average else None,
                best=None if self.state.best_step == self.state.step else self.best,
                state=asdict(self.state),
            )
            write_history(self.paths, self.state)
        except UserError as error:
            stays = "the checkpoint before it is kept, and the same command resumes from there"
            raise UserError(f"{error}; {stays}") from None

    # Beginning

    def _resume(self) -> bool:
        found = self.ranks.broadcast_from_rank0(self.checkpoints.load)
        if not found:
            return False
        path, checkpoint = found
        try:
            return self._restore(path, checkpoint)
        except UserError:
            raise
        # An undamaged file whose content is not what this code wrote.
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(
                f"{path}: cannot be resumed ({reason}); remove it to start from scratch"
            ) from None

    def _restore(self, path: Path, checkpoint: Checkpoint) -> bool:
        state = TrainerState(**checkpoint.state)
        if state.step < 0:
            raise ValueError(f"at step {state.step}")
        if state.step > self.config.steps:
            found = f"{path} is at step {state.step:,}, beyond the {self.config.steps:,} of this run"
            # Of the first process, as the checkpoint: other machines have no such folder.
            if not self.ranks.broadcast_from_rank0(lambda: self.checkpoints.is_finished):
                # Its weights are nowhere else.
                either = f"train it to its end, or remove {path.parent} to start from scratch"
                raise UserError(f"{found}; {either}")
            self._log(f"starting from scratch: {found}")
            return False
        load_tensors(self.task.net, checkpoint.net, path)
        self.task.optimizer.load_state_dict(checkpoint.optimizer)
        if self.task.adversary:
            assert checkpoint.adversary is not None
            load_tensors(self.task.adversary.net, checkpoint.adversary["net"], path)
            self.task.adversary.load_state_dict(checkpoint.adversary)
        if self.task.average:
            assert checkpoint.average is not None
            load_tensors(self.task.average, checkpoint.average, path)
        self.state = state
        self.best = checkpoint.best
        if state.best_step and not self.best:
            self.keep_best()
        self._log(f"resuming from step {state.step:,} of {self.config.steps:,} ({path})")
        if state.step == self.config.steps:  # nothing is left to be done where it is now
            self.environment = checkpoint.environment
            return True
        self.environment, changes = merge_environments(checkpoint.environment, self.environment)
        for change in changes:
            effect = "the samples stay the same, the last bits may differ"
            if change.startswith("epochs"):
                effect = "the learning rate follows another schedule now, so the weights will differ"
            elif change.startswith("processes") and not self.params.train.sync_batch_norm:
                part = self.spec.batch // self.ranks.count
                effect = (
                    f"batches are normalised by {part} at a time from here on, so the weights will differ"
                )
            self._log(f"{change}: {effect}")
        return True

    def _log(self, line: str) -> None:
        if self.ranks.is_main:
            log.info("%s: %s", self.name, line)

    def _log_start(self) -> None:
        where = f"{self.task.device}"
        if self.ranks.count > 1:
            where = f"{self.ranks.count} processes on {where}"
        if self.task.transfer and not self.state.step:
            for line in self.task.transfer.lines:
                self._log(line)
        self._log(f"{self._size()}, {self.config.steps:,} steps, {where} in {self.precision}")

    def _size(self) -> str:
        weights = sum(parameter.numel() for parameter in self.task.net.parameters())
        return f"{weights:,} weights, {len(self.data.rows):,} {self.data.data.unit} to train on"

    def _run_info(self, resumed: bool) -> RunInfo:
        params = flatten({"train": self.params.train.model_dump()}) | self.fingerprint
        params |= {"processes": self.ranks.count, "task.epochs": self.spec.epochs}
        tags = {name: str(value) for name, value in self.environment.items()}
        hashes = {f"{key}_hash": params.pop(key) for key in HASHES if key in params}
        tags |= {"code": self.code, "source": self.source, **hashes}
        history = sorted([*self.state.train, *self.state.val], key=lambda row: row["step"])
        description = f"{self.name}: {self.spec.network}; {self._size()}, {self.config.steps:,} steps"
        folder, path = self.checkpoints.folder, self.data.data.path
        finished = self.state.step == self.config.steps
        return RunInfo(self.name, params, tags, resumed, history, folder, path, description, finished)

    def _wrap_networks(self) -> None:
        adversary = self.task.adversary
        if self.params.train.sync_batch_norm and self.ranks.count > 1:
            for net in [self.task.net, *([adversary.net] if adversary else [])]:
                convert_sync_batch_norm(net)
        if adversary and self.ranks.count > 1:
            adversary.mean = self.ranks.mean
        freezes = bool(self.spec.init and self.spec.init.frozen)
        if wrapped := self.ranks.wrap(self.task.net, freezes=freezes):
            self.task.run = torch.compile(wrapped) if self.params.train.compile else wrapped

    # End

    def _read_data_signature(self) -> list[object]:
        return [file_signature(path) for path in self.data.data.files]

    def _write_outputs(self) -> None:
        if self._read_data_signature() != self._data_signature:
            found = "found another content than when training began"
            raise UserError(f"{self.data.data.path}: {found}, expected it to stay; train again")
        state, weights = self.state, self.task.averaged().weights()
        last = best = self._calibrate(weights)
        if state.best_step < state.step:
            assert self.best is not None
            best = self._calibrate(replace(weights, tensors=self.best))
        files = {"last": self.paths.models / "last.pt", "best": self.paths.models / "best.pt"}
        save_weights(files["best"], best)
        save_weights(files["last"], last)
        write_history(self.paths, state)
        self.checkpoints.mark_finished()
        self.tracker.set_tags({f"weights_{which}": file_hash(path) for which, path in files.items()})
        self.tracker.log_model(files["last"])
        took = f"trained {state.step:,} steps in {state.seconds:.0f} s"
        self._log(f"{took}, best {state.best:.4g} at step {state.best_step:,}")

    def _calibrate(self, weights: Weights) -> Weights:
        """With what the problem tunes on held-out rows, and with their provenance."""
        ran = {"steps": self.state.step, "code": self.code, "source": self.source}
        weights = replace(weights, provenance=self.fingerprint | ran | self.environment)
        train_params = self.params.problem(self.task.name)
        model = load_model(weights, str(self.paths.models), self.task.device, train_params)
        batch, flip = self.params.evaluate.batch, self.params.is_mirrored(self.task.name)
        predict = partial(predict_batches, model, self.data.data, batch=batch, flip=flip)
        problem = model.problem.calibrate(self.data.data, predict)
        return replace(weights, inference=problem.inference_params())
