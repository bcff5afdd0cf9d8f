"""What torch does in a training run: its threads and kernels, and errors that parameters cause."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pose.inference.batches import compute_threads
from pose.io.errors import UserError
from pose.params import Params
from pose.tasks.task import Task

CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # environment variable


@contextmanager
def compute_settings(params: Params) -> Iterator[None]:
    """Threads and kernels as the parameters say; as they were before at the end of the block."""
    drawn = torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    benchmark, workspace = torch.backends.cudnn.benchmark, os.environ.get(CUBLAS_WORKSPACE)
    if params.train.deterministic:  # no kernel whose result may differ from call to call
        os.environ.setdefault(CUBLAS_WORKSPACE, ":4096:8")  # read when CUDA is first used
        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        # Torch would write to every new tensor, a launch each, lest it be read unwritten: nothing does that.
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with compute_threads(params.train.threads):
            yield
    finally:
        torch.set_rng_state(drawn)
        torch.use_deterministic_algorithms(deterministic, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        if workspace is None:
            os.environ.pop(CUBLAS_WORKSPACE, None)


@contextmanager
def explain_torch_errors(task: Task, processes: int) -> Iterator[None]:
    """UserError in place of torch's errors that a parameter or a network causes. They have no types."""
    try:
        yield
    except RuntimeError as error:
        if "finished reduction in the prior iteration" not in str(error):
            raise
        weights = task.net.named_parameters()
        idle = [name for name, weight in weights if weight.requires_grad and weight.grad is None]
        found = f"found weights without a gradient: {', '.join(idle[:5]) or 'which, torch does not say'}"
        expected = "expected none in a network that several processes train"
        raise UserError(f"tasks.{task.name}.network: {found}, {expected}") from None
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        found = f"found {task.params.batch} for {processes} processes"
        expected = "expected 2 images for each or a larger input"
        why = "where maps shrink to one cell, one image alone cannot be normalised"
        raise UserError(f"tasks.{task.name}.batch: {found}, {expected}: {why}") from None
