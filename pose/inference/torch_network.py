"""Model weights run by PyTorch, for `Predictor`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pose.inference.batches import further_scales, select_device, tta_outputs
from pose.keypoints.people import People
from pose.models.weights import load_weights
from pose.tasks.arrays import Box
from pose.tasks.task import Model, load_model


class TorchNetwork:
    """A model in evaluation mode. flip, scales: test-time augmentation, as of `predict_batches`."""

    def __init__(self, model: Model, *, flip: bool, scales: Sequence[float] = (1.0,)):
        self.model, self._flip = model, flip
        self._scales = further_scales(scales)
        self.task, self.problem, self.skeleton = model.name, model.problem.kind, model.problem.skeleton

    @staticmethod
    def load(path: str, device: str | None, *, flip: bool, scales: Sequence[float]) -> TorchNetwork:
        """Read model weights; UserError, naming the file, for anything else."""
        model = load_model(load_weights(path), path, select_device(device))
        return TorchNetwork(model, flip=flip, scales=scales)

    def find(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None]) -> list[People]:
        """The people of each image of a batch, in its own px."""
        problem = self.model.problem
        inputs = problem.preprocess(images, boxes, self._scales).to(self.model.device)
        return problem.decode(tta_outputs(self.model, inputs, flip=self._flip), inputs.affine_B23)
