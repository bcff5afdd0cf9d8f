"""What a run trains on and is validated on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pose.data.loader import Loader, ResumableBatchSampler
from pose.inference.batches import predict_dataset
from pose.io.errors import UserError
from pose.metrics.monitored import TRAIN_PREFIX, monitored
from pose.params import Params
from pose.tasks.base import ProblemData, spread_evenly
from pose.tasks.task import Model, Task, open_data
from pose.training.distributed import Ranks


@dataclass(frozen=True)
class TrainingData:
    """The prepared set of a run. rows: trained on; val: validated on; scored: of `rows`, those scored too."""

    data: ProblemData
    rows: np.ndarray
    val: np.ndarray
    scored: np.ndarray
    batch: int
    seed: int
    workers: int
    timeout: float

    @staticmethod
    def load(params: Params, name: str, *, processes: int, prepared: Path | None = None) -> TrainingData:
        """Open the prepared set of a task; UserError, naming the file or the key, if it cannot be used."""
        batch, train = params.task(name).batch, params.train
        source = prepared or params.prepared(name)
        data = open_data(params.problem(name), source, max_val=train.val_samples)
        rows, val = data.rows("train"), data.rows("val")
        if len(rows) < batch:
            found = f"found {len(rows)} {data.unit} to train on"
            if more := len(data.source.rows("train")) - len(rows):
                found += f" ({more} more are held out)"
            raise UserError(f"{data.path}: {found}, expected at least tasks.{name}.batch = {batch}")
        if len(val) == 0:
            why = "prepare.lsp_held_out, lspet_held_out and mpii_held_out, or validation of the data set"
            raise UserError(f"{data.path}: found no {data.unit} held out of training, expected some ({why})")
        if reason := data.missing_metric_reason(val):
            raise UserError(f"{data.path}: the {len(val)} {data.unit} held out of training {reason}")
        if batch % processes:
            expected = f"a multiple of the {processes} processes (train.processes)"
            raise UserError(f"tasks.{name}.batch: found {batch}, expected {expected}")
        scored = spread_evenly(rows, train.train_samples) if train.train_samples else rows[:0]
        return TrainingData(data, rows, val, scored, batch, params.seed, train.workers, train.timeout)

    @property
    def steps_per_epoch(self) -> int:
        """Full batches of the rows that are trained on."""
        return len(self.rows) // self.batch

    def loader(self, start: int, stop: int, ranks: Ranks) -> Loader:
        """This rank's part of the batches of steps `start` to `stop`."""
        dataset = self.data.dataset(self.rows, seed=self.seed)
        batches = self._sampler(start, stop, ranks)
        return Loader(dataset, batches, workers=self.workers, timeout=self.timeout)

    def sample_names(self, step: int) -> list[str]:
        """The samples of a step, counted from 1, on all ranks."""
        [keys] = self._sampler(step - 1, step, Ranks())
        return [self.data.name(int(self.rows[position])) for _, position in keys]

    def _sampler(self, start: int, stop: int, ranks: Ranks) -> ResumableBatchSampler:
        place = {"start": start, "stop": stop, "rank": ranks.rank, "ranks": ranks.count}
        return ResumableBatchSampler(len(self.rows), self.batch, seed=self.seed, **place)


@dataclass(frozen=True)
class Validator:
    """Monitored metrics of a task on rows of its data; every rank predicts its share of them."""

    task: Task
    data: TrainingData
    ranks: Ranks
    batch: int

    def validate(self) -> dict[str, float]:
        """Metrics on the val rows, and, with the prefix `train `, on some rows that are trained on."""
        model = self.task.averaged()
        self.ranks.broadcast_buffers(model.net)  # so that the metrics are those of what is saved
        return self._metrics(model, self.data.val, "") | self._metrics(model, self.data.scored, TRAIN_PREFIX)

    def _metrics(self, model: Model, rows: np.ndarray, prefix: str) -> dict[str, float]:
        if not len(rows):
            return {}
        share = self.ranks.share(rows)
        found = predict_dataset(model, self.data.data, share, batch=self.batch, flip=False)
        scores = self.data.data.score(self.ranks.gather(found, len(rows)), rows)
        return monitored(self.task.problem.kind, scores, prefix)
