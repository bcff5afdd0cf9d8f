"""A training run from parameters to weights: data, resume state, loop, outputs. What `stages/train.py` calls.

Outputs: weights for use (`last.pt`, `best.pt`) and the history (`train.csv`, `valid.csv`), where `pose.folders` says.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from pose.checkpoint import STATE_FORMAT, fill, load_state, save_atomically, save_weights
from pose.data.loader import Epochs, loader
from pose.data.lsp_mpii import LspMpii
from pose.distributed import Ranks, join, launched, leave
from pose.engine import Plan, Progress, fit
from pose.errors import UserError
from pose.folders import PREPARED, Folders
from pose.infer import as_device, find_people
from pose.params import Params, flatten
from pose.process import FolderLock, end_with_parent
from pose.task import build_task

LOG_EVERY = 20  # steps a row of train.csv is the mean of


def train(params: Params, name: str, *, prepared: Path = PREPARED) -> None:
    """Train one task to the end, from its resume state if there is one of the same run; as one of several processes under torchrun.

    UserError for data, parameters or a folder that cannot be used; Interrupted on SIGTERM or Ctrl-C, after saving.
    """
    end_with_parent(direct=launched())  # torchrun cannot end its processes if it is killed itself
    cv2.setNumThreads(0)
    torch.set_num_threads(params.train.threads)
    ranks = join()
    try:
        with FolderLock(Folders(name).checkpoints) if ranks.main else nullcontext():
            _Run(params, name, prepared, ranks).go()
    finally:
        leave()


def check(params: Params, name: str, processes: int, *, prepared: Path = PREPARED) -> tuple[LspMpii, np.ndarray, np.ndarray]:
    """The prepared set, the rows to train on, the rows to validate on; UserError for what cannot be trained with."""
    batch = params.task(name).batch
    people = LspMpii(prepared)
    rows = people.rows("train")
    held_out = spread(people.rows("validation"), params.train.validation_people)
    if len(rows) < batch:
        raise UserError(f"{prepared}: found {len(rows)} people to train on, expected at least tasks.{name}.batch = {batch}")
    if len(held_out) == 0:
        raise UserError(f"{prepared}: found no people of split 'validation', expected some: see the prepare section of params.yaml")
    if batch % processes:
        raise UserError(f"tasks.{name}.batch: found {batch}, expected a multiple of the {processes} processes (train.processes)")
    return people, rows, held_out


class _Run:
    """One process's part in one run: what is read once, and what the loop calls back."""

    def __init__(self, params: Params, name: str, prepared: Path, ranks: Ranks):
        self.params, self.name, self.ranks, self.folders = params, name, ranks, Folders(name)
        self.spec = params.task(name)
        self.people, self.rows, self.held_out = check(params, name, ranks.count, prepared=prepared)
        self.data_hash = file_hash(prepared)
        self.task = build_task(params, name, device=as_device())
        self.shape = fingerprint(params, name, self.data_hash, ranks.count)
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
            weights = sum(parameter.numel() for parameter in self.task.net.parameters())
            print(f"{self.name}: {weights:,} weights, {len(self.rows):,} people to train on, {self.plan.steps:,} steps, {where}")
        with self._tracker(resumed) as record:
            self.record = record
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
            dataset = self.task.problem.dataset(self.people, self.rows, seed=self.params.seed, augment=True)
            fit(self.task, loader(dataset, batches, workers=self.params.train.workers), self.plan, self.progress, self)
            if self.ranks.main:
                self._finish()

    def validate(self) -> dict[str, float]:
        """Figures on held-out people, of whom every rank looks at its share."""
        share = self.ranks.share(self.held_out)
        found = find_people(self.task, self.people, share, batch=self.params.evaluate.batch, flip=False)
        found = self.ranks.gather(found, len(self.held_out))
        return self.task.problem.headline(self.task.problem.score(found, self.people, self.held_out))

    def log(self, values: dict[str, float], step: int) -> None:
        """Values to MLflow."""
        if self.record:
            self.record.log(values, step)

    def improved(self) -> None:
        """Keep the weights as the best so far."""
        if self.ranks.main:
            save_weights(self.folders.checkpoints / "best.pt", self.params, self.name, self.task.net)

    def save(self) -> None:
        """Write the resume state and the history up to here."""
        if not self.ranks.main:
            return
        content = {
            "format": STATE_FORMAT,
            "fingerprint": self.shape,
            "net": self.task.net.state_dict(),
            "optimizer": self.task.optimizer.state_dict(),
            "progress": asdict(self.progress),
        }
        save_atomically(self.folders.checkpoints / "state.pt", content)
        write_history(self.folders.plots, self.progress)
        if self.record:
            self.record.flush()

    def _resume(self) -> bool:
        path = self.folders.checkpoints / "state.pt"
        state = _resumable(path, self.shape, say=print if self.ranks.main else lambda _: None)
        if not state:
            return False
        if state["progress"]["step"] > self.plan.steps:
            print(f"starts afresh: {path} is at step {state['progress']['step']:,}, beyond the {self.plan.steps:,} of this run")
            return False
        fill(self.task.net, state["net"], path)
        self.task.optimizer.load_state_dict(state["optimizer"])
        self.progress = Progress(**state["progress"])
        if self.ranks.main:
            print(f"{self.name}: goes on from step {self.progress.step:,} of {self.plan.steps:,} ({path})")
        return True

    def _tracker(self, resumed: bool) -> AbstractContextManager[Any]:
        if not self.ranks.main:
            return nullcontext()
        try:
            from pose.tracking import Tracker
        except ModuleNotFoundError as error:  # a bare training machine
            print(f"tracking: no module {error.name}; the history is in {self.folders.plots}")
            return nullcontext()
        shape = {key: value for key, value in self.shape.items() if key != "data"}
        flat = shape | {"task.epochs": self.spec.epochs} | flatten({"train": self.params.train.model_dump()})
        known = self.folders.run_id.read_text().strip() if resumed and self.folders.run_id.exists() else ""
        tracker = Tracker.start(self.name, flat, run_id=known or None, data_hash=self.data_hash)
        self.folders.run_id.write_text(tracker.run_id or "")
        return tracker

    def _finish(self) -> None:
        folders, progress = self.folders, self.progress
        folders.models.mkdir(parents=True, exist_ok=True)
        save_weights(folders.models / "last.pt", self.params, self.name, self.task.net)
        shutil.copyfile(folders.checkpoints / "best.pt", folders.models / "best.pt")
        write_history(folders.plots, progress)
        if self.record:
            self.record.model(folders.models / f"{self.params.evaluate.weights}.pt")
            self.record.figure(history_figure(progress), "curves.png")
        took = f"trained {progress.step:,} steps in {progress.seconds:.0f} s"
        print(f"{self.name}: {took}, best {progress.best:.2f} at step {progress.best_step:,}")


def spread(rows: np.ndarray, most: int) -> np.ndarray:
    """At most `most` of the rows, evenly spread over them; all of them for 0."""
    return rows if not most or len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def file_hash(path: Path) -> str:
    """MD5 of a file, as DVC's lock file names it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


# What may differ between a run and its continuation: the rest shapes the weights or the history.
FREE_TO_CHANGE = {"tasks", "evaluate", "report", "synthetic", "prepare", "data"}
FREE_IN_TRAIN = {"workers", "checkpoint_every", "processes"}


def fingerprint(params: Params, name: str, data_hash: str, processes: int) -> dict[str, Any]:
    """Whatever shapes a run, by dotted key: a resume state of another fingerprint is not continued. `epochs` may be raised."""
    shape = params.model_dump(exclude=FREE_TO_CHANGE)
    shape["train"] = params.train.model_dump(exclude=FREE_IN_TRAIN)
    shape["task"] = params.task(name).model_dump(exclude={"epochs"})
    return flatten(shape) | {"data": data_hash, "processes": processes}


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
    folder.mkdir(parents=True, exist_ok=True)
    for rows, file in ((progress.train, "train.csv"), (progress.valid, "valid.csv")):
        pd.DataFrame(rows).to_csv(folder / file, index=False)


def history_figure(progress: Progress) -> Figure:
    """Loss and validation figures over steps, as MLflow keeps it."""
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    train_rows, valid_rows = pd.DataFrame(progress.train), pd.DataFrame(progress.valid)
    left.plot(train_rows["step"], train_rows["loss"])
    left.set(xlabel="step", ylabel="loss", yscale="log")
    for column in valid_rows.columns.drop(["step", "epoch", "seconds"]):
        right.plot(valid_rows["step"], valid_rows[column], marker=".", label=column)
    right.set(xlabel="step", ylabel="percent", ylim=(0, 100))
    right.legend()
    return figure
