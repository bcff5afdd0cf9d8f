"""A training run from parameters to weights: data, resume state, loop, outputs. What `stages/train.py` calls.

Outputs: weights for use (`last.pt`, `best.pt`) and the history (`train.csv`, `valid.csv`), where `pose.folders` says.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from pose.checkpoint import Weights, fill, save_weights, weights_of
from pose.data.loader import Epochs, Loader, worker_deaths_named
from pose.distributed import Ranks, joined, launched
from pose.engine import Interrupted, Plan, Progress, fit
from pose.errors import UserError
from pose.files import file_hash, sweep
from pose.folders import PREPARED, Folders
from pose.history import history_figure, write_history
from pose.infer import as_device, find_people, model_of
from pose.multi import MultiData, MultiPerson
from pose.nets.sync_norm import synchronised
from pose.params import Params, flatten
from pose.problem import Data, spread
from pose.process import FolderLock, end_with_parent
from pose.record import Record, Unrecorded
from pose.resume import States, environment, fingerprint, joined_environment
from pose.sources import code_digest
from pose.task import build_problem, build_task
from pose.thresholds import with_best_thresholds

LOG_EVERY = 20  # steps a row of train.csv is the mean of


def train(params: Params, name: str, *, prepared: Path | None = None, most: int | None = None, record: Record | None = None) -> None:
    """Train one task to the end, from its resume state if there is one of the same run; as one of several processes under torchrun.

    prepared: where the prepared set is, if not where the stages put it. most: steps, if that is fewer than the epochs have; the schedule is
    then that of so short a run. record: what is told of the run, if not MLflow.
    UserError for data, parameters or a folder that cannot be used; Interrupted on SIGTERM or Ctrl-C, after saving.
    """
    end_with_parent(direct=launched())  # torchrun cannot end its processes if it is killed itself
    cv2.setNumThreads(0)
    torch.set_num_threads(params.train.threads)
    if params.train.deterministic:
        _only_deterministic_kernels()
    folders = Folders(name)
    with joined() as ranks, FolderLock(folders.checkpoints) if ranks.main else nullcontext():
        if ranks.main:
            for folder in (folders.checkpoints, folders.models, folders.plots):
                sweep(folder)
        try:
            _Run(params, name, prepared, ranks, most, record).go()
        except Interrupted:
            if ranks.main:
                raise
            sys.exit(1)  # one process says so


def check(params: Params, name: str, processes: int, *, prepared: Path | None = None) -> tuple[Data, np.ndarray, np.ndarray]:
    """The prepared set, the rows to train on, the rows to watch; UserError for what cannot be trained with."""
    spec = params.task(name)
    problem = build_problem(params.problem(spec.problem))
    data = problem.data(prepared or PREPARED[spec.problem], watched=params.train.validation_people)
    rows, watched, batch = data.rows("train"), data.rows("watched"), spec.batch
    if len(rows) < batch:
        besides = f" (multi.held_out = {params.multi.held_out} more are held out)" if spec.problem == "multi" else ""
        raise UserError(f"{data.path}: found {len(rows)} {data.unit} to train on{besides}, expected at least tasks.{name}.batch = {batch}")
    if len(watched) == 0:
        held_out = "prepare.lspet_held_out and mpii_held_out; of LSP's own training people none are held out, add LSPET or MPII"
        raise UserError(f"{data.path}: found no {data.unit} held out of training, expected some ({held_out})")
    if why := data.unmeasured(watched):
        raise UserError(f"{data.path}: the {len(watched)} {data.unit} held out of training {why}")
    if batch % processes:
        raise UserError(f"tasks.{name}.batch: found {batch}, expected a multiple of the {processes} processes (train.processes)")
    return data, rows, watched


class _Run:
    """One process's part in one run: what is read once, and what the loop calls back."""

    def __init__(self, params: Params, name: str, prepared: Path | None, ranks: Ranks, most: int | None, record: Record | None):
        self.params, self.name, self.ranks, self.wanted_record, self.folders = params, name, ranks, record, Folders(name)
        self.spec = params.task(name)
        self.data, self.rows, self.watched = check(params, name, ranks.count, prepared=prepared)
        self.sampled = spread(self.rows, params.train.training_people) if params.train.training_people else self.rows[:0]
        self.data_hash = file_hash(*self.data.files)
        self.task = build_task(params, name, device=as_device())
        self.shape = fingerprint(params, name, self.data_hash)
        self.shape["train.precision"] = self._precision  # what `auto` came to here
        # What is not of the fingerprint, but decides when processes exchange what.
        beside = {"epochs": self.spec.epochs, "checkpoint_every": params.train.checkpoint_every, "code": code_digest(self.spec.problem)}
        ranks.agree(self.shape | beside)
        self.environment = environment(self.task.device, ranks.count, tags=self.spec.problem == "multi")
        self.states = States(self.folders.checkpoints, self.spec.problem)
        self.progress = Progress()
        self.best: dict[str, Tensor] | None = None  # tensors of the best weights so far, kept by the process that writes
        self.tracking: dict[str, Any] = {"run_id": None, "unsent": []}
        per_epoch = len(self.rows) // self.spec.batch
        steps = self.spec.epochs * per_epoch
        self.plan = Plan(
            steps=min(steps, most or steps),
            per_epoch=per_epoch,
            log_every=LOG_EVERY,
            validate_every=params.train.validate_every * per_epoch,
            checkpoint_every=params.train.checkpoint_every,
            checkpoint_seconds=60 * params.train.checkpoint_minutes,
        )

    def go(self) -> None:
        """Resume or begin, train, write the outputs."""
        self._resume()
        if self.ranks.main:
            where = f"{self.ranks.count} processes on {self.task.device}" if self.ranks.count > 1 else str(self.task.device)
            where += f" in {self._precision}"
            weights = sum(parameter.numel() for parameter in self.task.net.parameters())
            print(f"{self.name}: {weights:,} weights, {len(self.rows):,} {self.data.unit} to train on, {self.plan.steps:,} steps, {where}")
        with self._tracker() as self.record:
            adversary = self.task.adversary
            if self.params.train.sync_batch_norm and self.ranks.count > 1:
                for net in [self.task.net, *([adversary.net] if adversary else [])]:
                    synchronised(net)
            if adversary:
                adversary.mean = self.ranks.mean
            wrapped = self.ranks.wrap(self.task.net)
            if wrapped:
                self.task.run = torch.compile(wrapped) if self.params.train.compile else wrapped
            batches = self._order(self.progress.step, self.plan.steps, self.ranks)
            dataset = self.data.dataset(self.rows, seed=self.params.seed, augment=True)
            with worker_deaths_named(), self._lone_picture_named():
                fit(self.task, Loader(dataset, batches, workers=self.params.train.workers), self.plan, self.progress, self)
            if self.ranks.main:
                self._finish()

    @contextmanager
    def _lone_picture_named(self) -> Iterator[None]:
        try:
            yield
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):  # torch has no type of its own for it
                raise
            why = "where maps shrink to one cell, one picture alone has nothing to be normalised by"
            found = f"found {self.spec.batch} for {self.ranks.count} processes"
            raise UserError(f"tasks.{self.name}.batch: {found}, expected 2 pictures for each or a larger input: {why}") from None

    def validate(self) -> dict[str, float]:
        """Figures on the watched rows, and on some that are trained on; every rank looks at its share of them."""
        self.ranks.same_buffers(self.task.net)  # so that the figures are those of what is saved, after a restart too
        figures: dict[str, float] = {}
        for prefix, rows in (("", self.watched), ("train ", self.sampled)):
            if len(rows):
                found = find_people(self.task, self.data, self.ranks.share(rows), batch=self.params.evaluate.batch, flip=False)
                scores = self.data.score(self.ranks.gather(found, len(rows)), rows)
                figures |= {prefix + name: value for name, value in self.task.problem.headline(scores).items()}
        return figures

    def log(self, values: dict[str, float], step: int) -> None:
        """Values to MLflow."""
        self.record.log(values, step)

    def samples(self, step: int) -> list[str]:
        """What that step looked at, on all ranks, by name."""
        [keys] = self._order(step - 1, step, Ranks())
        return [self.data.name(int(self.rows[position])) for _, position in keys]

    def improved(self) -> None:
        """Keep the weights as the best so far."""
        if self.ranks.main:
            self.best = {name: tensor.to("cpu", copy=True) for name, tensor in self.task.net.state_dict().items()}

    def save(self) -> None:
        """Write the resume state and the history up to here."""
        if not self.ranks.main:
            return
        # With what is not told yet, and before it is told: a server that hangs must not cost the state of a run that is asked to end.
        self.tracking = {"run_id": self.record.run_id, "unsent": self.record.unsent()}
        content = {
            "environment": self.environment,
            "net": self.task.net.state_dict(),
            "optimizer": self.task.optimizer.state_dict(),
            "adversary": self.task.adversary.state() if self.task.adversary else None,
            "best": None if self.progress.best_step == self.progress.step else self.best,  # else it is `net`
            "progress": asdict(self.progress),
            "tracking": self.tracking,
        }
        try:
            self.states.write(self.shape, content)
            write_history(self.folders, self.progress)
        except UserError as error:
            raise UserError(f"{error}; what was saved before stays, and the same command goes on from there") from None
        self.record.flush()

    def _order(self, start: int, stop: int, ranks: Ranks) -> Epochs:
        where: dict[str, int] = {"start": start, "stop": stop, "rank": ranks.rank, "ranks": ranks.count}
        return Epochs(len(self.rows), self.spec.batch, seed=self.params.seed, **where)

    def _resume(self) -> None:
        say: Callable[[str], None] = (lambda words: print(f"{self.name}: {words}")) if self.ranks.main else lambda _: None
        found = self.ranks.of_main(lambda: self.states.read(self.shape, say))  # which other machines have not
        if not found:
            return
        path, state = found
        try:
            self._go_on(path, state, say)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:  # a sound file, but not one that we wrote
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"{path}: cannot be gone on from ({reason}), expected a resume state; remove it to start afresh") from None

    def _go_on(self, path: Path, state: dict[str, Any], say: Callable[[str], None]) -> None:
        if state["progress"]["step"] < 0:
            raise ValueError(f"at step {state['progress']['step']}")
        if state["progress"]["step"] > self.plan.steps:
            say(f"starts afresh: {path} is at step {state['progress']['step']:,}, beyond the {self.plan.steps:,} of this run")
            return
        fill(self.task.net, state["net"], path)
        self.task.optimizer.load_state_dict(state["optimizer"])
        if self.task.adversary:
            fill(self.task.adversary.net, state["adversary"]["net"], path)
            self.task.adversary.resume(state["adversary"])
        self.progress = Progress(**state["progress"])
        self.best = state["best"] or (state["net"] if self.progress.best_step else None)
        self.tracking = {"run_id": state["tracking"]["run_id"], "unsent": [tuple(value) for value in state["tracking"]["unsent"]]}
        say(f"goes on from step {self.progress.step:,} of {self.plan.steps:,} ({path})")
        self.environment, changes = joined_environment(state["environment"], self.environment)
        for change in changes:
            effect = self._what_processes_change if change.startswith("processes") else "the last bits may differ"
            say(f"{change}: the samples stay the same, {effect}")

    @property
    def _what_processes_change(self) -> str:
        if self.params.train.sync_batch_norm:
            return "the last bits may differ"
        return f"but batches are normalised by {self.spec.batch // self.ranks.count} at a time, so the weights become others"

    def _tracker(self) -> Record:
        if not self.ranks.main:
            return Unrecorded()
        if self.wanted_record:
            return self.wanted_record
        try:
            from pose.tracking import Tracker
        except ModuleNotFoundError as error:  # a bare training machine
            print(f"tracking: no module {error.name}; the history is in {self.folders.plots}")
            return Unrecorded()
        shape = {key: value for key, value in self.shape.items() if key != "data"} | {"processes": self.ranks.count}
        flat = flatten({"train": self.params.train.model_dump()}) | shape | {"task.epochs": self.spec.epochs}
        tags = {name: str(self.environment[name]) for name in ("torch", "device")} | {"code": code_digest(self.spec.problem)}
        return Tracker.start(self.name, flat, **self.tracking, data_hash=self.data_hash, tags=tags, id_file=self.folders.run_id)

    def _finish(self) -> None:
        folders, progress = self.folders, self.progress
        last = best = self._finished(weights_of(self.task))
        if progress.best_step < progress.step:
            assert self.best is not None
            best = self._finished(replace(weights_of(self.task), tensors=self.best))
        files = {"last": folders.models / "last.pt", "best": folders.models / "best.pt"}
        save_weights(files["best"], best)
        save_weights(files["last"], last)
        write_history(folders, progress)
        self.record.tag(**{f"weights_{which}": file_hash(path) for which, path in files.items()})
        self.record.model(files["last"])
        self.record.figure(history_figure(progress), "curves.png")
        took = f"trained {progress.step:,} steps in {progress.seconds:.0f} s"
        print(f"{self.name}: {took}, best {progress.best:.4g} at step {progress.best_step:,}")

    @property
    def _precision(self) -> str:
        return "bfloat16" if self.task.autocast else "float32"

    def _finished(self, weights: Weights) -> Weights:
        """With what they were trained by, and, for a problem that has thresholds to choose, with those that suit them."""
        went = {"task.epochs": self.spec.epochs, "steps": self.progress.step, "code": code_digest(self.spec.problem)}
        weights = replace(weights, trained=self.shape | went | self.environment)
        model = model_of(weights, self.folders.models, self.task.device)
        problem, data = model.problem, self.data
        if not isinstance(problem, MultiPerson) or not isinstance(data, MultiData) or not problem.params.thresholds.choose:
            return weights
        held_out = replace(data, watched=0).rows("watched")  # all of them, however few are looked at while training
        problem = with_best_thresholds(model, problem, data, held_out, batch=self.params.evaluate.batch, flip=True)
        chosen = problem.params.thresholds
        print(f"{self.name}: thresholds by {len(held_out)} held-out images: detection {chosen.detection}, tag {chosen.tag}")
        return replace(weights, params=problem.params)


def _only_deterministic_kernels() -> None:
    """From now on torch uses no kernel whose result may differ from call to call, and raises where it has no other."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when CUDA is first used
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
