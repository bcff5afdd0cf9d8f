"""Writing the images and MATLAB files of synthetic sets, drawn by several processes."""

from __future__ import annotations

import io
import multiprocessing
import multiprocessing.connection
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


def write_jpeg(path: Path, image_HW3: np.ndarray, rng: np.random.Generator) -> None:
    """An RGB image as a JPEG file of random quality."""
    quality = int(rng.integers(72, 97))
    image_BGR = cv2.cvtColor(image_HW3, cv2.COLOR_RGB2BGR)
    if not cv2.imwrite(str(path), image_BGR, [cv2.IMWRITE_JPEG_QUALITY, quality]):
        raise OSError(f"{path}: cannot be written")


def write_mat(path: Path, **variables: np.ndarray) -> None:
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
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context = multiprocessing.get_context(method)
    if method == "forkserver":
        context.set_forkserver_preload(["pose.data.synthetic"])
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_init_worker) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _init_worker() -> None:
    """One OpenCV thread, and an end when the caller ends, however it does."""
    cv2.setNumThreads(1)
    caller = multiprocessing.parent_process()
    assert caller is not None
    threading.Thread(target=_end_with, args=(caller.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    multiprocessing.connection.wait([sentinel])
    os._exit(1)


def draw_all(name: str, draw: Callable[[Any], Any], jobs: Sequence[Any], pool: Executor | None) -> list[Any]:
    """`draw` of every job in order, with a progress bar."""
    chunk = max(1, min(16, len(jobs) // 32))
    results = pool.map(draw, jobs, chunksize=chunk) if pool else map(draw, jobs)
    return list(tqdm(results, total=len(jobs), desc=f"drawing {name}", unit="image", disable=None))
