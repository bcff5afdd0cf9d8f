"""Images or batches -> people: used by validation, evaluation and `pose predict`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from pose.data.loader import Loader, sequential_batches
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.models.weights import ProblemKind, load_weights
from pose.tasks.base import Box, ProblemData, TTAOutput
from pose.tasks.task import Model, load_model


@torch.inference_mode()
def tta_outputs(model: Model, images: Sequence[Tensor], *, flip: bool) -> list[TTAOutput]:
    """The network's outputs for a batch (B, 3, H, W) at one or several sizes, the input's own first.

    flip: also for the mirrored images.
    """
    outputs = []
    for image_B3HW in images:
        outputs.append(TTAOutput(model(image_B3HW)))
        if flip:
            outputs.append(TTAOutput(model(image_B3HW.flip(-1)), mirrored=True))
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

    scales: of the input size, for problems that support several; 1 is always among them.
    """
    dataset = data.dataset(rows, scales=[scale for scale in scales if scale != 1])
    batches = Loader(dataset, sequential_batches(len(rows), batch), workers=workers)
    disable = None if progress else True  # None: disabled where there is no terminal
    for raw in tqdm(batches, desc=f"{model.name}: predicting {data.unit}", unit="batch", disable=disable):
        inputs = raw.inputs.to(model.device)
        yield tta_outputs(model, inputs.images, flip=flip), inputs.affine_B23


def predict_dataset(model: Model, data: ProblemData, rows: np.ndarray, **settings: Any) -> list[People]:
    """The people in rows of a prepared set, in image px. settings: those of `predict_batches`."""
    batches = predict_batches(model, data, rows, **settings)
    return [people for outputs, affine_B23 in batches for people in model.problem.decode(outputs, affine_B23)]


class Predictor:
    """Finds people in images. flip, scales: test-time augmentation, as of `predict_batches`."""

    def __init__(self, model: Model, *, flip: bool, batch: int = 16, scales: Sequence[float] = (1.0,)):
        self._model, self._flip, self._batch = model, flip, batch
        self._scales = [scale for scale in scales if scale != 1]

    @staticmethod
    def load(
        path: str | Path, device: str | None = None, *, flip: bool = True, scales: Sequence[float] = (1.0,)
    ) -> Predictor:
        """Read `models/TASK/last.pt` or `best.pt`; UserError, naming the file, for anything else."""
        model = load_model(load_weights(path), str(path), select_device(device))
        return Predictor(model, flip=flip, scales=scales)

    @property
    def task(self) -> str:
        """The task that the weights were trained for."""
        return self._model.name

    @property
    def problem(self) -> ProblemKind:
        """`single`: one person in each image or box; `multi`: all people of an image."""
        return self._model.problem.kind

    @property
    def skeleton(self) -> Skeleton:
        """The joints that are found."""
        return self._model.problem.skeleton

    def predict(
        self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] | None = None
    ) -> list[People]:
        """The people of each image, in its own px.

        images: (H, W, 3) uint8 RGB each. boxes: of the one person in each, (x, y, width, height) px, None for
        the whole image. UserError for images or boxes that cannot be used.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
                found = f"{image.dtype} of shape {image.shape}"
                raise UserError(f"image: found {found}, expected uint8 of shape (height, width, 3)")
        boxes = boxes or [None] * len(images)
        problem = self._model.problem
        people: list[People] = []
        for first in range(0, len(images), self._batch):
            some = slice(first, first + self._batch)
            inputs = problem.preprocess(images[some], boxes[some], self._scales).to(self._model.device)
            outputs = tta_outputs(self._model, inputs.images, flip=self._flip)
            people += problem.decode(outputs, inputs.affine_B23)
        return people


def select_device(name: str | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one. UserError if there is no such device."""
    try:
        torch.zeros(1, device=name).tolist()  # `meta` has no values
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError, ImportError):  # unknown, not there, or not in this build of torch
        expected = "expected cpu, cuda or cuda:0 ..., where this machine and its PyTorch have it"
        raise UserError(f"device: found {name!r}, {expected}") from None
