"""Model weights behind MLflow's interface: `mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pose.inference.predictor import Predictor
from pose.io.errors import UserError
from pose.io.images import read_image

COLUMNS = ["image", "person", "score", "joint", "x", "y", "confidence"]


class PoseModel:
    """Images in, joints out."""

    def __init__(self, predictor: Predictor):
        self.predictor = predictor

    def predict(self, images: np.ndarray | Sequence[np.ndarray | str | Path] | str | Path) -> pd.DataFrame:
        """Joints of the people in each image.

        images: uint8 RGB arrays of shape (height, width, 3), one (B, height, width, 3) array, paths of files,
        or one image or path. Returns a row for each joint: image (position in `images`), person, the person's
        score, joint (name), x, y (image px, NaN where it was not found), confidence. Unlikely people are not
        left out.
        """
        rows: list[tuple[Any, ...]] = []
        for image, people in enumerate(self.predictor.predict(_as_images(images))):
            for person, score in enumerate(people.score_P.tolist()):
                places, scores = people.joint_PK2[person].tolist(), people.score_PK[person].tolist()
                for joint, place, confidence in zip(
                    self.predictor.skeleton.joints, places, scores, strict=True
                ):
                    rows.append((image, person, score, joint, *place, confidence))
        return pd.DataFrame(rows, columns=COLUMNS)


def _as_images(images: Any) -> list[np.ndarray]:
    if isinstance(images, pd.DataFrame):
        expected = "expected arrays of shape (height, width, 3) or paths of files"
        raise UserError(f"images: found a table, {expected}")
    if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    return [image if isinstance(image, np.ndarray) else read_image(image) for image in images]


def _load_pyfunc(path: str) -> PoseModel:
    """What MLflow calls, by this name, with the path of the weights."""
    return PoseModel(Predictor.load(path))
