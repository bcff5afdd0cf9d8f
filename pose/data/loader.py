"""The order of the samples, and loaders that keep it for any number of workers and from any step on."""

from __future__ import annotations

import logging
import multiprocessing
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from pose.data.batch import TensorFields
from pose.data.samples import SampleKey
from pose.io.errors import UserError

log = logging.getLogger(__name__)

END = object()  # of the batches
POLL = 0.5  # seconds
SIGNAL_SECONDS = 1.0  # within which torch's signal handler names a dead worker


class ResumableBatchSampler:
    """Endless shuffled epochs as batches of sample keys, from any step on.

    The order within an epoch comes from (seed, epoch). What is left over at its end is dropped, so that all
    batches have one size. rank, ranks: of every batch, this process takes every `ranks`-th sample.
    """

    def __init__(
        self, samples: int, batch: int, *, seed: int, start: int, stop: int, rank: int = 0, ranks: int = 1
    ):
        self.samples, self.batch, self.seed = samples, min(batch, samples), seed
        self.start, self.stop, self.rank, self.ranks = start, stop, rank, ranks

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch."""
        return self.samples // self.batch

    def __len__(self) -> int:
        return max(self.stop - self.start, 0)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        step = self.start
        while step < self.stop:
            epoch, first = divmod(step, self.steps_per_epoch)
            order = np.random.default_rng([self.seed, epoch]).permutation(self.samples)
            for number in range(first, min(self.steps_per_epoch, first + self.stop - step)):
                positions = order[number * self.batch : (number + 1) * self.batch][self.rank :: self.ranks]
                yield [(epoch, int(position)) for position in positions]
                step += 1


def sequential_batches(samples: int, batch: int) -> list[list[SampleKey]]:
    """Every sample once, in order, epoch 0: for validation and evaluation."""
    starts = range(0, samples, batch)
    return [[(0, position) for position in range(first, min(first + batch, samples))] for first in starts]


class Loader:
    """Batches of a data set in the given order; `workers` processes load ahead, 0 loads in this one.

    The data set's `__getitems__` is called with the keys of a batch. A UserError of it is raised here, also
    from a worker. timeout: seconds that workers have for a batch, 0 for any; then they are killed. Use it
    within `raise_on_dead_worker`.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        batches: Sequence[list[SampleKey]] | ResumableBatchSampler,
        *,
        workers: int,
        timeout: float = 0.0,
    ):
        self._batches, self._timeout = batches, timeout
        self._loader: DataLoader[Any] = DataLoader(
            ErrorReturningDataset(dataset),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=identity_collate,
            worker_init_fn=_init_worker,
            pin_memory=torch.cuda.is_available(),
            # Samples have their own generators; without this one the loader would draw from the global one.
            generator=torch.Generator().manual_seed(0),
            prefetch_factor=4 if workers else None,
        )

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        others = multiprocessing.active_children()
        batches = iter(self._loader)
        workers = [child for child in multiprocessing.active_children() if child not in others]
        watchdog = _Watchdog(workers, self._timeout)
        try:
            while (batch := watchdog.next(batches)) is not END:
                if isinstance(batch, UserError):
                    raise batch
                yield batch
        finally:
            watchdog.stop()


class _Watchdog:
    """A thread that kills loader workers if a batch is waited for too long.

    Torch's own timeout does not end a wait for what a stopped worker hands over. The wait is counted in this
    thread's own polls: a process that was itself suspended for a while does not take its workers for dead.
    """

    def __init__(self, workers: Sequence[BaseProcess], seconds: float):
        """seconds: 0 for any."""
        self._workers, self._seconds = workers, seconds
        self._waits, self._is_waiting, self._stopped = 0, False, threading.Event()
        if workers and seconds:
            threading.Thread(target=self._run, name="loader watchdog", daemon=True).start()

    def next(self, batches: Iterator[Any]) -> Any:
        """The next batch, or END. RuntimeError if a worker died as it handed one over."""
        self._waits += 1
        self._is_waiting = True
        try:
            return next(batches, END)
        except (ConnectionError, EOFError, queue.Empty) as error:
            if "in DataLoader worker process" in str(error):  # the data set raised this in a worker
                raise
            # Here, not further up: torch's signal handler is about to raise an error that says more, and
            # while this one was on its way it could do so within `raise_on_dead_worker`'s own end.
            time.sleep(SIGNAL_SECONDS)
            raise RuntimeError(f"DataLoader worker (pid unknown) is gone: {error!r}") from None
        finally:
            self._is_waiting = False

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self._stopped.set()

    def _run(self) -> None:
        last, waited = 0, 0.0
        while not self._stopped.wait(POLL):
            goes_on = self._is_waiting and self._waits == last
            last, waited = self._waits, waited + POLL if goes_on else 0.0
            if waited >= self._seconds:
                log.warning("no batch in %g s (train.timeout): killing the loader workers", self._seconds)
                for worker in self._workers:
                    worker.kill()
                return


@contextmanager
def raise_on_dead_worker() -> Iterator[None]:
    """UserError where a loader worker dies, whichever way torch reports it.

    Around everything that runs while there are workers: torch's signal handler raises a RuntimeError in the
    main thread, wherever that is.
    """
    try:
        yield
    except RuntimeError as error:
        died = re.search(r"(DataLoader worker \(pid|DataLoader timed out|Pin memory thread).*", str(error))
        if not died:
            raise
        death = died[0].strip().rstrip(".")
        raise UserError(
            f"{death}: found a loader worker dead, perhaps out of memory (train.workers)"
        ) from None


class ErrorReturningDataset(Dataset[Any]):
    """A data set that returns its UserError: raised in a worker, torch would wrap it in a traceback.

    A worker moves its batches into shared memory here.
    """

    def __init__(self, dataset: Dataset[Any]):
        self._dataset = dataset

    def __getitems__(self, keys: list[SampleKey]) -> Any:
        try:
            batch = self._dataset.__getitems__(keys)  # type: ignore[attr-defined]
        except UserError as error:
            return error
        if get_worker_info() is None or not isinstance(batch, TensorFields):
            return batch
        try:
            return batch.map(Tensor.share_memory_)
        # Later, in a thread of torch's, nobody would notice, and the loader wait for ever.
        except (RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            found = f"found no room for a batch of a loader worker ({reason})"
            return UserError(f"/dev/shm: {found}, expected more (docker run --shm-size), or train.workers: 0")


def identity_collate(batch: Any) -> Any:
    """The batch as the data set made it."""
    return batch


def _init_worker(_: int) -> None:
    # One core a worker; OpenCV's own threads would compete with the others. Not 1, which ends those threads:
    # a forked worker has none of what its parent began, and would wait for them for ever.
    cv2.setNumThreads(0)
    # Torch passes on the data set's errors. The hook is left with those of threads that hand over batches as
    # another process dies, of which one line tells.
    sys.excepthook = lambda *_: None
