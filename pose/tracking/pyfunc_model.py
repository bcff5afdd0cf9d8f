"""Weights for use behind MLflow's common face for models.

`mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

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

    def predict(self, images: np.ndarray | Sequence[np.ndarray | str | Path]) -> pd.DataFrame:
        """Joints of the people in each image.

        images: uint8 RGB arrays of shape (height, width, 3), one (B, height, width, 3) array, one such image,
        or paths of files. Returns one row a joint: image (position in `images`), person, their score, joint
        (name), x, y (image px), confidence; a joint that was not found has NaN for x and y. All people are
        there, however unlikely: leave out those of a low score yourself.
        """
        names = self.predictor.skeleton.joints
        rows = []
        for image, people in enumerate(self.predictor.predict(_pictures(images))):
            for person in range(len(people)):
                for joint, name in enumerate(names):
                    x, y = people.joint_PK2[person, joint]
                    rows.append(
                        (
                            image,
                            person,
                            float(people.score_P[person]),
                            name,
                            float(x),
                            float(y),
                            float(people.score_PK[person, joint]),
                        )
                    )
        return pd.DataFrame(rows, columns=COLUMNS)


def _pictures(images: np.ndarray | Sequence[np.ndarray | str | Path] | str | Path) -> list[np.ndarray]:
    if isinstance(images, pd.DataFrame):
        raise UserError(
            "images: found a table, expected arrays of shape (height, width, 3) or paths of files"
        )
    if isinstance(images, (str, Path)) or (isinstance(images, np.ndarray) and images.ndim == 3):
        images = [images]
    return [image if isinstance(image, np.ndarray) else read_image(image) for image in images]


def _load_pyfunc(path: str) -> PoseModel:
    """What MLflow calls, by this name, with the file of the weights."""
    return PoseModel(Predictor.load(path))
