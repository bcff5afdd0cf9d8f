"""Writing the images and MATLAB files of synthetic sets, drawn by several processes."""

from __future__ import annotations

import io
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm.auto import tqdm

from pose.data.threads import cores, one_opencv_thread
from pose.io.images import encode_jpeg


def write_jpeg(path: Path, image_HW3: np.ndarray, rng: np.random.Generator) -> None:
    """An RGB image as a JPEG file of random quality."""
    path.write_bytes(encode_jpeg(image_HW3, int(rng.integers(72, 97))))


def write_mat(path: Path, **variables: Any) -> None:
    """Variables as a MATLAB file, which depends on nothing but them."""
    import scipy.io

    file = io.BytesIO()
    scipy.io.savemat(file, variables, do_compression=True)
    data = file.getvalue()
    # The first 116 bytes are free text, where scipy puts the time.
    path.write_bytes(b"MATLAB 5.0 MAT-file, drawn from a seed".ljust(116) + data[116:])


@contextmanager
def drawing_pool(workers: int | None) -> Iterator[Executor | None]:
    """Processes to draw with, one per core if `workers` is None; no pool for one worker: the caller draws."""
    workers = workers or cores()
    if workers == 1:
        with one_opencv_thread():  # faster for images this small
            yield None
        return
    # Not `fork`: if OpenCV has started its threads in this process, a child would wait for them for ever.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_init_worker) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _init_worker() -> None:
    cv2.setNumThreads(1)
    threading.Thread(target=_end_with_caller, daemon=True).start()


def _end_with_caller() -> None:
    """Without it, workers of a caller that was killed would wait for ever."""
    caller = multiprocessing.parent_process()
    assert caller is not None
    caller.join()
    os._exit(1)


def draw_all(name: str, draw: Callable[[Any], Any], jobs: Sequence[Any], pool: Executor | None) -> list[Any]:
    """`draw` of every job in order, with a progress bar."""
    chunk = max(1, min(16, len(jobs) // 32))
    results = pool.map(draw, jobs, chunksize=chunk) if pool else map(draw, jobs)
    return list(tqdm(results, total=len(jobs), desc=f"drawing {name}", unit="image", disable=None))
