"""A network's outputs for batches of images, under test-time augmentation: in training and evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pose.data.batch import Inputs
from pose.data.loader import Loader, sequential_batches
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.tasks.base import ProblemData, TTAOutput
from pose.tasks.task import Model


def select_device(name: str | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one. UserError if there is no such device."""
    try:
        torch.zeros(1, device=name).tolist()  # `meta` has no values
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError, ImportError):  # unknown, not there, or not in this build of torch
        expected = "expected cpu, cuda or cuda:0 ..., where this machine and its PyTorch have it"
        raise UserError(f"device: found {name!r}, {expected}") from None


@contextmanager
def compute_threads(threads: int) -> Iterator[None]:
    """Torch with so many threads and OpenCV in the calling one alone; as before at the end of the block.

    Their number changes the last bits of what a network computes.
    """
    before, image_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(threads)
    cv2.setNumThreads(0)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        cv2.setNumThreads(image_threads)


def further_scales(scales: Sequence[float]) -> list[float]:
    """The sizes beside 1, each once, so that the mean over sizes counts all alike."""
    return sorted({*scales} - {1.0})


@torch.inference_mode()
def tta_outputs(model: Model, inputs: Inputs, *, flip: bool) -> list[TTAOutput]:
    """The network's outputs for a batch at one or several sizes, on the model's device.

    flip: also for the mirrored images.
    """
    outputs = []
    zooms = inputs.zooms or (1.0,) * len(inputs.images)
    for image_B3HW, zoom in zip(inputs.images, zooms, strict=True):
        outputs.append(TTAOutput(model(image_B3HW), zoom=zoom))
        if flip:
            outputs.append(TTAOutput(model(image_B3HW.flip(-1)), mirrored=True, zoom=zoom))
    return outputs


def predict_batches(
    model: Model,
    data: ProblemData,
    rows: np.ndarray,
    *,
    batch: int,
    flip: bool,
    scales: Sequence[float] = (1.0,),
    workers: int = 0,
    progress: bool = False,
) -> Iterator[tuple[list[TTAOutput], Tensor]]:
    """The outputs of a network in evaluation mode and affine_B23, for each batch of rows of a prepared set.

    scales: sizes at which people are shown, over that of training; 1 is always among them.
    """
    dataset = data.dataset(rows, scales=further_scales(scales))
    batches = Loader(dataset, sequential_batches(len(rows), batch), workers=workers)
    disable = None if progress else True  # None: disabled where there is no terminal
    for raw in tqdm(batches, desc=f"{model.name}: predicting {data.unit}", unit="batch", disable=disable):
        inputs = raw.inputs.to(model.device)
        yield tta_outputs(model, inputs, flip=flip), inputs.affine_B23


def predict_dataset(model: Model, data: ProblemData, rows: np.ndarray, **settings: Any) -> list[People]:
    """The people in rows of a prepared set, in image px. settings: those of `predict_batches`."""
    batches = predict_batches(model, data, rows, **settings)
    return [people for outputs, affine_B23 in batches for people in model.problem.decode(outputs, affine_B23)]
