"""A training run from parameters to weights: data, resume state, loop, outputs. What `stages/train.py` calls.

Outputs: weights for use (`last.pt`, `best.pt`) and the history (`train.csv`, `valid.csv`), where `pose.folders` says.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from pose.checkpoint import STATE_FORMAT, Weights, fill, load_state, load_weights, save_atomically, save_weights, weights_of
from pose.data.loader import Epochs, loader
from pose.distributed import Ranks, joined, launched
from pose.engine import Interrupted, Plan, Progress, fit
from pose.errors import UserError
from pose.files import written_whole
from pose.folders import PREPARED, Folders
from pose.infer import as_device, find_people, model_of
from pose.multi import MultiData, MultiPerson
from pose.nets.sync_norm import synchronised
from pose.params import Params, flatten
from pose.problem import Data
from pose.process import FolderLock, end_with_parent
from pose.single import spread
from pose.task import build_problem, build_task
from pose.thresholds import with_best_thresholds

LOG_EVERY = 20  # steps a row of train.csv is the mean of


def train(params: Params, name: str, *, prepared: Path | None = None) -> None:
    """Train one task to the end, from its resume state if there is one of the same run; as one of several processes under torchrun.

    prepared: where the prepared set is, if not where the stages put it.
    UserError for data, parameters or a folder that cannot be used; Interrupted on SIGTERM or Ctrl-C, after saving.
    """
    end_with_parent(direct=launched())  # torchrun cannot end its processes if it is killed itself
    cv2.setNumThreads(0)
    torch.set_num_threads(params.train.threads)
    with joined() as ranks, FolderLock(Folders(name).checkpoints) if ranks.main else nullcontext():
        try:
            _Run(params, name, prepared, ranks).go()
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
        raise UserError(f"{data.path}: found no {data.unit} held out of training, expected some: see the prepare section of params.yaml")
    if batch % processes:
        raise UserError(f"tasks.{name}.batch: found {batch}, expected a multiple of the {processes} processes (train.processes)")
    return data, rows, watched


class _Run:
    """One process's part in one run: what is read once, and what the loop calls back."""

    def __init__(self, params: Params, name: str, prepared: Path | None, ranks: Ranks):
        self.params, self.name, self.ranks, self.folders = params, name, ranks, Folders(name)
        self.spec = params.task(name)
        self.data, self.rows, self.watched = check(params, name, ranks.count, prepared=prepared)
        self.sampled = spread(self.rows, params.train.training_people) if params.train.training_people else self.rows[:0]
        self.data_hash = file_hash(self.data.path)
        self.task = build_task(params, name, device=as_device())
        self.shape = fingerprint(params, name, self.data_hash)
        self.shape["train.precision"] = self._precision  # what `auto` came to here
        # Those two are not of the fingerprint, but decide when processes exchange what.
        ranks.agree(self.shape | {"epochs": self.spec.epochs, "train.checkpoint_every": params.train.checkpoint_every})
        self.progress = Progress()
        per_epoch = len(self.rows) // self.spec.batch
        self.plan = Plan(
            steps=self.spec.epochs * per_epoch,
            per_epoch=per_epoch,
            log_every=LOG_EVERY,
            validate_every=params.train.validate_every * per_epoch,
            checkpoint_every=params.train.checkpoint_every,
        )

    def go(self) -> None:
        """Resume or begin, train, write the outputs."""
        resumed = self._resume()
        if self.ranks.main:
            where = f"{self.ranks.count} processes on {self.task.device}" if self.ranks.count > 1 else str(self.task.device)
            where += f" in {self._precision}"
            weights = sum(parameter.numel() for parameter in self.task.net.parameters())
            print(f"{self.name}: {weights:,} weights, {len(self.rows):,} {self.data.unit} to train on, {self.plan.steps:,} steps, {where}")
        with self._tracker(resumed) as record:
            self.record = record
            adversary = self.task.adversary
            if self.params.train.sync_batch_norm and self.ranks.count > 1:
                for net in [self.task.net, *([adversary.net] if adversary else [])]:
                    synchronised(net)
            if adversary:
                adversary.mean = self.ranks.mean
            wrapped = self.ranks.wrap(self.task.net)
            if wrapped:
                self.task.run = torch.compile(wrapped) if self.params.train.compile else wrapped
            batches = Epochs(
                len(self.rows),
                self.spec.batch,
                seed=self.params.seed,
                start=self.progress.step,
                stop=self.plan.steps,
                rank=self.ranks.rank,
                ranks=self.ranks.count,
            )
            dataset = self.data.dataset(self.rows, seed=self.params.seed, augment=True)
            fit(self.task, loader(dataset, batches, workers=self.params.train.workers), self.plan, self.progress, self)
            if self.ranks.main:
                self._finish()

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
        if self.record:
            self.record.log(values, step)

    def improved(self) -> None:
        """Keep the weights as the best so far."""
        if self.ranks.main:
            save_weights(self.folders.checkpoints / "best.pt", weights_of(self.task))

    def save(self) -> None:
        """Write the resume state and the history up to here."""
        if not self.ranks.main:
            return
        content = {
            "format": STATE_FORMAT,
            "fingerprint": self.shape,
            "net": self.task.net.state_dict(),
            "optimizer": self.task.optimizer.state_dict(),
            "adversary": self.task.adversary.state() if self.task.adversary else None,
            "processes": self.ranks.count,
            "progress": asdict(self.progress),
        }
        save_atomically(self.folders.checkpoints / "state.pt", content)
        write_history(self.folders.plots, self.progress)
        if self.record:
            self.record.flush()

    def _resume(self) -> bool:
        path = self.folders.checkpoints / "state.pt"
        say: Callable[[str], None] = print if self.ranks.main else lambda _: None
        state = self.ranks.of_main(lambda: _resumable(path, self.shape, say))  # which other machines have not
        if not state:
            return False
        if state["progress"]["step"] > self.plan.steps:
            say(f"starts afresh: {path} is at step {state['progress']['step']:,}, beyond the {self.plan.steps:,} of this run")
            return False
        fill(self.task.net, state["net"], path)
        self.task.optimizer.load_state_dict(state["optimizer"])
        if self.task.adversary:
            fill(self.task.adversary.net, state["adversary"]["net"], path)
            self.task.adversary.resume(state["adversary"])
        self.progress = Progress(**state["progress"])
        if self.ranks.main:
            print(f"{self.name}: goes on from step {self.progress.step:,} of {self.plan.steps:,} ({path})")
            if state["processes"] != self.ranks.count:
                now = f"it had {state['processes']} processes, now {self.ranks.count}"
                print(f"{self.name}: {now}: the samples stay the same, {self._what_processes_change}")
        return True

    @property
    def _what_processes_change(self) -> str:
        if self.params.train.sync_batch_norm:
            return "the last bits may differ"
        return f"but batches are normalised by {self.spec.batch // self.ranks.count} at a time, so the weights become others"

    def _tracker(self, resumed: bool) -> AbstractContextManager[Any]:
        if not self.ranks.main:
            return nullcontext()
        try:
            from pose.tracking import Tracker
        except ModuleNotFoundError as error:  # a bare training machine
            print(f"tracking: no module {error.name}; the history is in {self.folders.plots}")
            return nullcontext()
        shape = {key: value for key, value in self.shape.items() if key != "data"} | {"processes": self.ranks.count}
        flat = flatten({"train": self.params.train.model_dump()}) | shape | {"task.epochs": self.spec.epochs}
        known = self.folders.run_id.read_text().strip() if resumed and self.folders.run_id.exists() else ""
        tracker = Tracker.start(self.name, flat, run_id=known or None, data_hash=self.data_hash)
        self.folders.run_id.write_text(tracker.run_id or "")
        return tracker

    def _finish(self) -> None:
        folders, progress = self.folders, self.progress
        last = best = self._with_thresholds(weights_of(self.task))
        if progress.best_step < progress.step:
            best = self._with_thresholds(load_weights(folders.checkpoints / "best.pt"))
        save_weights(folders.models / "best.pt", best)
        save_weights(folders.models / "last.pt", last)
        write_history(folders.plots, progress)
        if self.record:
            self.record.model(folders.models / "last.pt")
            self.record.figure(history_figure(progress), "curves.png")
        took = f"trained {progress.step:,} steps in {progress.seconds:.0f} s"
        print(f"{self.name}: {took}, best {progress.best:.4g} at step {progress.best_step:,}")

    @property
    def _precision(self) -> str:
        return "bfloat16" if self.task.autocast else "float32"

    def _with_thresholds(self, weights: Weights) -> Weights:
        """For a problem that has thresholds to choose: with those that suit these weights."""
        model = model_of(weights, self.folders.models, self.task.device)
        problem, data = model.problem, self.data
        if not isinstance(problem, MultiPerson) or not isinstance(data, MultiData) or not problem.params.thresholds.choose:
            return weights
        held_out = replace(data, watched=0).rows("watched")  # all of them, however few are looked at while training
        problem = with_best_thresholds(model, problem, data, held_out, batch=self.params.evaluate.batch, flip=True)
        chosen = problem.params.thresholds
        print(f"{self.name}: thresholds by {len(held_out)} held-out images: detection {chosen.detection}, tag {chosen.tag}")
        return replace(weights, params=problem.params)


def file_hash(path: Path) -> str:
    """MD5 of a file, as DVC's lock file names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# What may differ between a run and its continuation: the rest shapes the weights or the history.
FREE_TO_CHANGE = {"tasks", "evaluate", "report", "synthetic", "prepare", "data"}
PROBLEMS = {"single", "multi"}  # a task has one of them
FREE_IN_TRAIN = {"workers", "checkpoint_every", "processes"}


def fingerprint(params: Params, name: str, data_hash: str) -> dict[str, Any]:
    """Whatever shapes a run, by dotted key: a resume state of another fingerprint is not continued. `epochs` may be raised. The number
    of processes may change too, since machines come and go: a resume says what that changes."""
    problem = params.task(name).problem
    shape = params.model_dump(exclude=FREE_TO_CHANGE | PROBLEMS) | {problem: params.problem(problem).model_dump()}
    shape["train"] = params.train.model_dump(exclude=FREE_IN_TRAIN)
    shape["task"] = params.task(name).model_dump(exclude={"epochs"})
    return flatten(shape) | {"data": data_hash}


def _resumable(path: Path, shape: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        state = load_state(path)
    except UserError as error:
        say(f"starts afresh: {error}")
        return None
    found = state["fingerprint"]
    differing = [key for key in sorted(found.keys() | shape.keys()) if found.get(key) != shape.get(key)]
    if differing:
        key = differing[0]
        more = f" and {len(differing) - 1} more" if len(differing) > 1 else ""
        say(f"starts afresh: {path} is of another run: {key} was {found.get(key)!r}, is {shape.get(key)!r}{more}")
        return None
    return state


def write_history(folder: Path, progress: Progress) -> None:
    """`train.csv` and `valid.csv` as `dvc plots` and the report read them."""
    for rows, file in ((progress.train, "train.csv"), (progress.valid, "valid.csv")):
        with written_whole(folder / file) as path:
            pd.DataFrame(rows).to_csv(path, index=False)


def history_figure(progress: Progress) -> Figure:
    """Loss and validation figures over steps, as MLflow keeps it."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    train_rows, valid_rows = pd.DataFrame(progress.train), pd.DataFrame(progress.valid)
    left.plot(train_rows["step"], train_rows["loss"])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for column in valid_rows.columns.drop(["step", "epoch", "seconds"]):
        right.plot(valid_rows["step"], valid_rows[column], marker=".", label=column)
    right.set(xlabel="step", ylim=(0, None))
    right.legend()
    return figure
