"""Batches -> people. Validation, evaluation and `pose predict` all come through here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pose.checkpoint import fill, load_weights
from pose.data.loader import in_order, loader
from pose.data.lsp_mpii import LspMpii
from pose.data.sample import PERSON_PX, RawBatch, Sample, crop, person_affine
from pose.errors import UserError
from pose.people import People
from pose.single import SinglePerson
from pose.skeleton import Skeleton
from pose.task import Model

Box = tuple[float, float, float, float]  # x, y, width, height in image px
WHOLE_IMAGE = 0.8  # LSP's rule: in a picture of one person, height is 0.8 of the longer side, so a crop of 1.25 shows all of it
BOX = 1.0  # height of a person over the longer side of a box around them


@torch.inference_mode()
def outputs(model: Model, image_B3HW: Tensor, *, flip: bool) -> Tensor:
    """The network's output; with `flip`, the mean with that of the mirrored image, brought back."""
    output = model(image_B3HW)
    if flip:
        output = (output + model.problem.mirrored(model(image_B3HW.flip(-1)))) / 2
    return output


def find_people(
    model: Model, people: LspMpii, rows: np.ndarray, *, batch: int, flip: bool, workers: int = 0, progress: bool = False
) -> list[People]:
    """What the network (in evaluation mode) finds for rows of a prepared set, in their order, in image px."""
    dataset = model.problem.dataset(people, rows, seed=0, augment=False)
    found: list[People] = []
    batches = loader(dataset, in_order(len(rows), batch), workers=workers)
    for raw in tqdm(batches, desc=f"{model.name}: people found", unit="batch", disable=not progress):
        inputs = raw.to(model.device)
        found += model.problem.decode(outputs(model, inputs.image_B3HW, flip=flip), inputs)
    return found


def load_model(path: str | Path, device: str | None = None) -> Model:
    """Weights for use as a model in evaluation mode; UserError, naming the file, for anything else."""
    weights, where = load_weights(path), as_device(device)
    problem = SinglePerson(weights.single)
    net = problem.network(weights.network)
    fill(net, weights.tensors, path)
    return Model(name=weights.task, problem=problem, net=net.to(where).eval(), device=where)


class Predictor:
    """Weights for use, ready to find people in pictures."""

    def __init__(self, model: Model, *, flip: bool, batch: int = 16):
        self._model, self._flip, self._batch = model, flip, batch

    @staticmethod
    def load(path: str | Path, device: str | None = None, *, flip: bool = True) -> Predictor:
        """Read `models/TASK/last.pt` or `best.pt`; UserError, naming the file, for anything else."""
        return Predictor(load_model(path, device), flip=flip)

    @property
    def task(self) -> str:
        """Name of the task that the weights were trained for."""
        return self._model.name

    @property
    def problem(self) -> str:
        """`single`: one person in each picture or box."""
        return "single"

    @property
    def skeleton(self) -> Skeleton:
        """Joints that are found, in their order."""
        return self._model.problem.skeleton

    def people(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] | None = None) -> list[People]:
        """The people of each picture, in its own px.

        images: HxWx3 uint8 RGB each. boxes: where the person is, (x, y, width, height) px; None is the whole picture.
        """
        boxes = boxes or [None] * len(images)
        found: list[People] = []
        for first in range(0, len(images), self._batch):
            pairs = zip(images[first : first + self._batch], boxes[first : first + self._batch], strict=True)
            inputs = RawBatch.of([self._sample(image, box) for image, box in pairs]).to(self._model.device)
            found += self._model.problem.decode(outputs(self._model, inputs.image_B3HW, flip=self._flip), inputs)
        return found

    def _sample(self, image_HW3: np.ndarray, box: Box | None) -> Sample:
        if image_HW3.ndim != 3 or image_HW3.shape[2] != 3 or image_HW3.dtype != np.uint8:
            raise UserError(f"image: found {image_HW3.dtype} of shape {image_HW3.shape}, expected uint8 of shape (height, width, 3)")
        height, width = image_HW3.shape[:2]
        x, y, w, h = box or (0.0, 0.0, float(width), float(height))
        if w <= 0 or h <= 0:
            raise UserError(f"box: found {w} x {h} px, expected a width and a height above 0")
        centre = np.array([x + (w - 1) / 2, y + (h - 1) / 2])
        scale = (WHOLE_IMAGE if box is None else BOX) * max(w, h) / PERSON_PX
        params = self._model.problem.params
        affine = person_affine(centre, scale, params=params)
        joints, cells = len(self.skeleton), params.input // 4
        return Sample(
            image_HW3=crop(image_HW3, affine, params.input),
            gain_3=np.ones(3, dtype=np.float32),
            heatmap_Khw=np.zeros((joints, cells, cells), dtype=np.float32),
            mask_K=np.zeros(joints, dtype=np.float32),
            affine_23=affine,
            row=0,
        )


def as_device(name: str | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one."""
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"device: found {name!r}, expected cpu, cuda or cuda:0 ...") from None
