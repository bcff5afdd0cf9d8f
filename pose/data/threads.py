"""Many pictures at a time, on the cores that this process may use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import cv2
from tqdm import tqdm

Job = TypeVar("Job")
Result = TypeVar("Result")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def one_opencv_thread() -> Iterator[None]:
    """OpenCV computes each picture in the thread that asks: its own threads would only fight with ours."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(threads)


@contextmanager
def in_threads(
    work: Callable[[Job], Result], jobs: Sequence[Job], workers: int | None, *, doing: str
) -> Iterator[Iterator[Result]]:
    """`work` of every job, in order, with a progress bar.

    Workers: threads, all cores if None; jobs: one an image.

    Threads, since decoding, resizing and encoding let go of Python's lock. Those still waiting when the block
    ends are not begun.
    """
    with one_opencv_thread(), ThreadPoolExecutor(workers or cores()) as pool:
        try:
            yield iter(tqdm(pool.map(work, jobs), total=len(jobs), desc=doing, unit="image", disable=None))
        finally:
            pool.shutdown(cancel_futures=True)
