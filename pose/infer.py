"""Batches -> people. Validation, evaluation and `pose predict` all come through here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from pose.checkpoint import Weights, fits, load_weights
from pose.data.loader import Loader, in_order
from pose.errors import UserError
from pose.people import People
from pose.problem import Box, Data, View
from pose.skeleton import Skeleton
from pose.task import Model, build_problem


@torch.inference_mode()
def views_of(model: Model, images: Sequence[Tensor], *, flip: bool) -> list[View]:
    """The network's answers to a batch at one or several sizes, the input's own first; with `flip` also to its mirror images."""
    views = []
    for image_B3HW in images:
        views.append(View(model(image_B3HW)))
        if flip:
            views.append(View(model(image_B3HW.flip(-1)), mirrored=True))
    return views


def answers(
    model: Model,
    data: Data,
    rows: np.ndarray,
    *,
    batch: int,
    flip: bool,
    scales: Sequence[float] = (1.0,),
    workers: int = 0,
    progress: bool = False,
) -> Iterator[tuple[list[View], Tensor]]:
    """What the network (in evaluation mode) answers to rows of a prepared set, batch by batch in their order, and affine_B23.

    scales: sizes at which a picture is looked at, for problems that know of sizes; 1, the input's own, is always among them.
    """
    dataset = data.dataset(rows, seed=0, augment=False, scales=[scale for scale in scales if scale != 1])
    batches = Loader(dataset, in_order(len(rows), batch), workers=workers)
    for raw in tqdm(batches, desc=f"{model.name}: {data.unit} looked at", unit="batch", disable=not progress):
        inputs = raw.to(model.device)
        yield views_of(model, inputs.images, flip=flip), inputs.affine_B23


def find_people(model: Model, data: Data, rows: np.ndarray, **how: Any) -> list[People]:
    """The people in rows of a prepared set, in their order, in image px. how: as in `answers`."""
    return [people for views, affine_B23 in answers(model, data, rows, **how) for people in model.problem.decode(views, affine_B23)]


def load_model(path: str | Path, device: str | None = None) -> Model:
    """Weights for use as a model in evaluation mode; UserError, naming the file, for anything else."""
    return model_of(load_weights(path), path, as_device(device))


def model_of(weights: Weights, source: str | Path, device: torch.device) -> Model:
    """Weights as a model in evaluation mode; UserError, naming their source, if they do not fit their own network."""
    problem = build_problem(weights.params)
    with torch.device("meta"):  # without memory, and without drawing numbers: a file may ask for a network larger than what it holds
        net = problem.network(weights.network)
    fits(net, weights.tensors, source)
    net.to_empty(device=device).load_state_dict(dict(weights.tensors))
    return Model(name=weights.task, problem=problem, spec=weights.network, net=net.eval(), device=device, mean=weights.mean)


class Predictor:
    """Weights for use, ready to find people in pictures. scales: as in `answers`."""

    def __init__(self, model: Model, *, flip: bool, batch: int = 16, scales: Sequence[float] = (1.0,)):
        self._model, self._flip, self._batch = model, flip, batch
        self._scales = [scale for scale in scales if scale != 1]

    @staticmethod
    def load(path: str | Path, device: str | None = None, *, flip: bool = True, scales: Sequence[float] = (1.0,)) -> Predictor:
        """Read `models/TASK/last.pt` or `best.pt`; UserError, naming the file, for anything else."""
        return Predictor(load_model(path, device), flip=flip, scales=scales)

    @property
    def task(self) -> str:
        """Name of the task that the weights were trained for."""
        return self._model.name

    @property
    def problem(self) -> str:
        """`single`: one person in each picture or box; `multi`: all people of a picture."""
        return self._model.problem.kind

    @property
    def skeleton(self) -> Skeleton:
        """Joints that are found, in their order."""
        return self._model.problem.skeleton

    def people(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None] | None = None) -> list[People]:
        """The people of each picture, in its own px.

        images: HxWx3 uint8 RGB each. boxes: where the one person is, (x, y, width, height) px; None is the whole picture.
        """
        for image in images:
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or image.size == 0:
                raise UserError(f"image: found {image.dtype} of shape {image.shape}, expected uint8 of shape (height, width, 3)")
        boxes = boxes or [None] * len(images)
        found: list[People] = []
        for first in range(0, len(images), self._batch):
            some = slice(first, first + self._batch)
            inputs = self._model.problem.show(images[some], boxes[some], self._scales).to(self._model.device)
            found += self._model.problem.decode(views_of(self._model, inputs.images, flip=self._flip), inputs.affine_B23)
        return found


def as_device(name: str | None = None) -> torch.device:
    """The device of that name; by default a GPU where there is one."""
    try:
        return torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError:
        raise UserError(f"device: found {name!r}, expected cpu, cuda or cuda:0 ...") from None
