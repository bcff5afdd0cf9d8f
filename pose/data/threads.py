"""Work on many images at a time, on the cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
from tqdm.auto import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV computes in the calling thread alone: its own threads would compete with ours."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def in_threads(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, *, description: str
) -> Iterator[Iterator[Result]]:
    """The results of `work` on every job (one an image), in order, with a progress bar.

    Threads suffice, since decoding, resizing and encoding release Python's lock. workers: None for one per
    core. Jobs that wait when the block ends are cancelled.
    """
    with one_opencv_thread(), ThreadPoolExecutor(workers or cores()) as pool:
        try:
            results = pool.map(work, jobs)
            yield iter(tqdm(results, total=len(jobs), desc=description, unit="image", disable=None))
        finally:
            pool.shutdown(cancel_futures=True)
