"""The order of the samples, and loaders that keep it whatever the number of workers or the place of a restart."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pose.errors import UserError

Key = tuple[int, int]


class Epochs:
    """Endless shuffled epochs as batches of (epoch, position) keys, from any batch on.

    The order within an epoch comes from (seed, epoch). What is left over at the end of an epoch is dropped, so that all batches are
    of one size. rank, ranks: of every batch, this process takes every `ranks`-th sample.
    """

    def __init__(self, samples: int, batch: int, *, seed: int, start: int, stop: int, rank: int = 0, ranks: int = 1):
        self.samples, self.batch, self.seed = samples, min(batch, samples), seed
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    @property
    def per_epoch(self) -> int:
        return self.samples // self.batch

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[Key]]:
        step = self.start
        while step < self.stop:
            epoch, first = divmod(step, self.per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
            for number in range(first, min(self.per_epoch, first + self.stop - step)):
                positions = order[number * self.batch : (number + 1) * self.batch][self.rank :: self.ranks]
                yield [(epoch, int(position)) for position in positions]
                step += 1


class Loader:
    """Batches of a data set in the given order; `workers` processes load ahead, 0 loads in this one.

    The data set makes whole batches: its `__getitems__` is called with the keys of one. UserError where it raises one, in a worker too.
    See `worker_deaths_named`.
    """

    def __init__(self, dataset: Dataset[Any], batches: Sequence[list[Key]] | Epochs, *, workers: int):
        self._batches = batches
        self._loader: DataLoader[Any] = DataLoader(
            _Told(dataset),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_quiet_worker,
            pin_memory=torch.cuda.is_available(),
            # Draws are made from each sample's own generator; without one of its own the loader would touch the global one.
            generator=torch.Generator().manual_seed(0),
            prefetch_factor=4 if workers else None,
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        for batch in self._loader:
            if isinstance(batch, UserError):
                raise batch
            yield batch


@contextmanager
def worker_deaths_named() -> Iterator[None]:
    """A loader worker that dies is a UserError. Around all that goes on while there are workers: torch raises its RuntimeError in the main
    thread wherever that is just then."""
    try:
        yield
    except RuntimeError as error:
        if not (died := re.search(r"DataLoader worker \(pid.*?\).*", str(error))):
            raise
        raise UserError(f"{died[0].strip().rstrip('.')}: found a loader worker dead, out of memory perhaps (train.workers)") from None


class _Told(Dataset[Any]):
    """A data set that returns its UserError: raised in a worker, torch would wrap it in a traceback."""

    def __init__(self, dataset: Dataset[Any]):
        self._dataset = dataset

    def __getitems__(self, keys: list[Key]) -> Any:
        try:
            return self._dataset.__getitems__(keys)  # type: ignore[attr-defined]
        except UserError as error:
            return error


def in_order(samples: int, batch: int) -> list[list[Key]]:
    """Every sample once, in order, epoch 0: for validation and evaluation."""
    return [[(0, position) for position in range(first, min(first + batch, samples))] for first in range(0, samples, batch)]


def _as_it_is(batch: Any) -> Any:
    return batch


def _quiet_worker(_: int) -> None:
    cv2.setNumThreads(0)  # one core a worker; OpenCV's own threads would fight with the others
