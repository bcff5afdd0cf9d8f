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
from pose.inference.refine import Refiner
from pose.inference.tta import tta_outputs
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.models.weights import ProblemKind, load_weights
from pose.tasks.base import Box, ProblemData, TTAOutput
from pose.tasks.task import Model, load_model

BATCH = 16  # images at once, and crops


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
    """Finds people in images.

    flip, scales: test-time augmentation, as of `predict_batches`. refiner: looks again at each person found.
    """

    def __init__(
        self,
        model: Model,
        *,
        flip: bool,
        batch: int = BATCH,
        scales: Sequence[float] = (1.0,),
        refiner: Refiner | None = None,
    ):
        self._model, self._flip, self._batch, self._refiner = model, flip, batch, refiner
        self._scales = [scale for scale in scales if scale != 1]

    @staticmethod
    def load(
        path: str | Path,
        device: str | None = None,
        *,
        flip: bool = True,
        scales: Sequence[float] = (1.0,),
        refine: str | Path | None = None,
    ) -> Predictor:
        """Read `models/TASK/last.pt` or `best.pt`; UserError, naming the file, for anything else.

        refine: single-person weights to refine the people of multi-person weights with.
        """
        model, refiner = load_model(load_weights(path), str(path), select_device(device)), None
        if refine:
            if model.problem.kind != "multi":
                kind = model.problem.kind
                raise UserError(
                    f"{path}: found weights of problem {kind}, expected multi to refine people of"
                )
            skeleton = model.problem.skeleton
            refiner = Refiner.load(refine, skeleton, device=model.device, flip=flip, batch=BATCH)
        return Predictor(model, flip=flip, scales=scales, refiner=refiner)

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
        self,
        images: Sequence[np.ndarray],
        boxes: Sequence[Box | None] | None = None,
        *,
        min_score: float = 0.0,
    ) -> list[People]:
        """The people of each image, in its own px.

        images: (H, W, 3) uint8 RGB each. boxes: of the one person in each, (x, y, width, height) px, None for
        the whole image. min_score: people found with less are left out, before any refinement. UserError for
        images or boxes that cannot be used.
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
            sure = [one.above(min_score) for one in problem.decode(outputs, inputs.affine_B23)]
            people += self._refiner.refine(images[some], sure) if self._refiner else sure
        return people


def select_device(name: str | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one. UserError if there is no such device."""
    try:
        torch.zeros(1, device=name).tolist()  # `meta` has no values
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except (RuntimeError, AssertionError, ImportError):  # unknown, not there, or not in this build of torch
        expected = "expected cpu, cuda or cuda:0 ..., where this machine and its PyTorch have it"
        raise UserError(f"device: found {name!r}, {expected}") from None
