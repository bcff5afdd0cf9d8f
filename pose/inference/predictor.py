"""Images in, people out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pose.inference.batches import select_device, tta_outputs
from pose.inference.refine import Refiner
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton
from pose.models.weights import ProblemKind, load_weights
from pose.tasks.base import Box
from pose.tasks.task import Model, load_model

BATCH = 16  # images at once, and crops


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
