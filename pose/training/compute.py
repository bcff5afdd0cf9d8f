"""Threads and kernels of a training run, set for the time that it takes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from pose.params import Params

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # environment variable


@contextmanager
def compute_settings(params: Params) -> Iterator[None]:
    """Threads and kernels as the parameters say; as they were before at the end of the block."""
    threads, image_threads = torch.get_num_threads(), cv2.getNumThreads()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS_WORKSPACE)
    cv2.setNumThreads(0)
    torch.set_num_threads(params.train.threads)
    if params.train.deterministic:  # no kernel whose result may differ from call to call
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")  # read when CUDA is first used
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        # Torch would write to every new tensor, a launch each, lest it be read unwritten: nothing does that.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        cv2.setNumThreads(image_threads)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)
