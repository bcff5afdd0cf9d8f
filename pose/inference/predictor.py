"""Images in, people out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np

from pose.inference.draw import draw_people
from pose.inference.images import TIMEOUT, load_image
from pose.inference.onnx_network import OnnxNetwork
from pose.io.command import MAX_CROP_SCALE, SCALES, are_scales
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.results import PERSON, ImageResult, coco_results
from pose.keypoints.skeleton import Skeleton
from pose.tasks.arrays import Box

if TYPE_CHECKING:
    import pandas as pd

    from pose.inference.refine import Refiner
    from pose.models.weights import ProblemKind

BATCH = 16  # images at once, and crops
COLUMNS = ("person", "score", "joint", "x", "y", "confidence")


@dataclass(frozen=True)
class Prediction(People):
    """The people found in one image, by falling score, and the joints that they have."""

    skeleton: Skeleton

    def draw(self, image: Any, **settings: Any) -> np.ndarray:
        """The people on a copy of the image, (H, W, 3) uint8 RGB.

        image: anything that `Predictor.predict` takes. settings: those of `pose.inference.draw.draw_people`.
        """
        return draw_people(load_image(image), self, self.skeleton, **settings)

    def to_frame(self) -> pd.DataFrame:
        """A row for each joint: person (from 0), the person's score, joint (its name), x, y, confidence.

        x and y are image px, NaN where the joint was not found.
        """
        import pandas as pd

        people, joints = self.score_PK.shape
        values = {
            "person": np.repeat(np.arange(people), joints),
            "score": np.repeat(self.score_P, joints),
            "joint": list(self.skeleton.joints) * people,
            "x": self.joint_PK2[..., 0].ravel(),
            "y": self.joint_PK2[..., 1].ravel(),
            "confidence": self.score_PK.ravel(),
        }
        return pd.DataFrame(values, columns=COLUMNS)

    def to_coco(self, image_id: int = 0, category_id: int = PERSON) -> list[dict[str, Any]]:
        """Entries in COCO's result format, see `pose.keypoints.results.coco_results`."""
        return coco_results([ImageResult(self, image_id=image_id)], category=category_id)


class Network(Protocol):
    """What finds people in a batch of images."""

    task: str
    problem: ProblemKind
    skeleton: Skeleton

    def find(self, images: Sequence[np.ndarray], boxes: Sequence[Box | None]) -> list[People]: ...


class Predictor:
    """Finds people in images.

    task: that the weights were trained for. problem: `single`, one person in each image or box, or `multi`,
    all people of an image. skeleton: the joints that are found. refiner: looks again at each person found.
    """

    def __init__(self, network: Network, *, batch: int = BATCH, refiner: Refiner | None = None):
        self._network, self._batch, self._refiner = network, batch, refiner
        self.task, self.problem, self.skeleton = network.task, network.problem, network.skeleton

    @staticmethod
    def load(
        path: str | Path,
        device: str | None = None,
        *,
        flip: bool = True,
        scales: Sequence[float] = (1.0,),
        refine: str | Path | None = None,
    ) -> Predictor:
        """Read `models/TASK/last.pt` or `best.pt`, or a file `.onnx` of `pose export`.

        flip, scales: test-time augmentation, as of `predict_batches`; an exported network has the scale 1
        only. refine: single-person weights to refine the people of multi-person weights with. UserError,
        naming the file, for anything else. A file `.onnx` is run by ONNX Runtime without PyTorch.
        """
        if not are_scales(scales):
            raise UserError(f"scales: found {', '.join(map(str, scales))}, expected {SCALES}")
        if Path(path).suffix.lower() == ".onnx":
            if refine:
                raise UserError(
                    f"{path}: found an exported network, expected weights (.pt) to refine people of"
                )
            return Predictor(OnnxNetwork.load(path, device, flip=flip, scales=scales))
        from pose.inference.torch_network import TorchNetwork

        network, refiner = TorchNetwork.load(str(path), device, flip=flip, scales=scales), None
        if network.problem == "single" and max(scales, default=1.0) > MAX_CROP_SCALE:
            expected = f"expected at most {MAX_CROP_SCALE:g} of one person's crop"
            raise UserError(f"{path}: found scale {max(scales):g}, {expected}")
        if refine:
            from pose.inference.refine import Refiner

            if network.problem != "multi":
                found = f"found weights of problem {network.problem}"
                raise UserError(f"{path}: {found}, expected multi to refine people of")
            settings: dict[str, Any] = {"device": network.model.device, "flip": flip, "batch": BATCH}
            refiner = Refiner.load(refine, network.skeleton, **settings)
        return Predictor(network, refiner=refiner)

    @overload
    def predict(
        self,
        images: Sequence[Any],
        boxes: Sequence[Box | None] | None = None,
        *,
        min_score: float = ...,
        timeout: float = ...,
    ) -> list[Prediction]: ...

    @overload
    def predict(
        self, images: Any, boxes: Box | None = None, *, min_score: float = ..., timeout: float = ...
    ) -> Prediction: ...

    def predict(
        self, images: Any, boxes: Any = None, *, min_score: float = 0.0, timeout: float = TIMEOUT
    ) -> list[Prediction] | Prediction:
        """The people of each image, in its own px; of one image alone, not in a list, its people.

        images: paths, URLs, images of Pillow, or arrays (H, W, 3) uint8 RGB; see
        `pose.inference.images.load_image`. boxes: of the one person in each, (x, y, width, height) px, None
        for the whole image. min_score: people found with less are left out, before any refinement. timeout:
        seconds until a URL must have given its image. UserError for images or boxes that cannot be used.
        """
        if not isinstance(images, (list, tuple)) and getattr(images, "ndim", 3) != 4:
            return self.predict([images], [boxes], min_score=min_score, timeout=timeout)[0]
        boxes = _checked_boxes(boxes, len(images))
        found: list[Prediction] = []
        for first in range(0, len(images), self._batch):
            some = slice(first, first + self._batch)
            loaded = [
                load_image(image, timeout, name=f"images[{number}]")
                for number, image in enumerate(images[some], start=first)
            ]
            people = [one.above(min_score) for one in self._network.find(loaded, boxes[some])]
            if self._refiner:
                people = [
                    one.take(np.argsort(-one.score_P, kind="stable"))
                    for one in self._refiner.refine(loaded, people)
                ]
            found += [Prediction(**vars(one), skeleton=self.skeleton) for one in people]
        return found


def _checked_boxes(boxes: Any, count: int) -> list[Box | None]:
    """A box, or none, for each image; UserError for others."""
    boxes = [None] * count if boxes is None else [*boxes]
    if len(boxes) != count:
        raise UserError(f"boxes: found {len(boxes)}, expected one (or None) for each of {count} images")
    return [box if box is None else _checked_box(box, f"boxes[{n}]") for n, box in enumerate(boxes)]


def _checked_box(box: Any, name: str) -> Box:
    try:
        x, y, width, height = map(float, box)
        if np.isfinite((x, y, width, height)).all():
            return x, y, width, height
    except (TypeError, ValueError):
        pass
    raise UserError(f"{name}: found {box}, expected x, y, width, height in px")
