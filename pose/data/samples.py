"""What data sets of both problems share: from sample keys to batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from torch.utils.data import Dataset

from pose.data.batch import Batch

SampleKey = tuple[int, int]  # epoch, position


class SampleDataset(Dataset[Batch], ABC):
    """Batches of some rows of a prepared set, with targets to train on, or, if seed is None, for inference.

    The augmentation of a sample depends on (seed, epoch, `sample_id`) and nothing else, so that neither the
    number of workers nor a restart changes what a sample looks like.
    """

    def __init__(self, rows: np.ndarray, seed: int | None):
        self.rows, self.seed = rows, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Batch:
        """A batch at once: torch's loader calls this in place of `__getitem__` where it exists."""
        row_B = self.rows[[position for _, position in keys]]
        if self.seed is None:
            return self.inference_batch(row_B)
        ids = map(self.sample_id, row_B.tolist())
        seeds = ([self.seed, epoch, one] for (epoch, _), one in zip(keys, ids, strict=True))
        return self.training_batch(row_B, [np.random.default_rng(seed) for seed in seeds])

    def sample_id(self, row: int) -> int:
        """What augmentation is drawn by: the row, unless rows have ids of their own."""
        return row

    @abstractmethod
    def inference_batch(self, row_B: np.ndarray) -> Batch:
        """Samples as they are, without targets."""

    @abstractmethod
    def training_batch(self, row_B: np.ndarray, rngs: Sequence[np.random.Generator]) -> Batch:
        """Samples augmented by one generator each, with targets."""
