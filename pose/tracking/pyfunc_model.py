"""Model weights behind MLflow's interface: `mlflow.pyfunc.load_model("runs:/RUN/model").predict(images)`."""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST

from pose.inference.predictor import BATCH, Prediction, Predictor
from pose.io.errors import UserError
from pose.io.images import decode_image, is_image, read_image

COLUMNS = ["image", "person", "score", "joint", "x", "y", "confidence"]
# MLflow's server sets it. It would write NaN into its answers, which is no JSON.
SERVING = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


class ImagesRefused(MlflowException, UserError):
    """Images that cannot be used. `mlflow models serve` answers with this one line and status 400."""

    def __init__(self, message: str) -> None:
        super().__init__(message, error_code=BAD_REQUEST)

    @property
    def message(self) -> str:
        """The line itself. MLflow's server would put all that it was sent before it, several megabytes."""
        return str(self)

    @message.setter
    def message(self, _: str) -> None:
        pass


class PoseModel:
    """Images in, joints out. allow_paths: texts may also be paths of files, which are then read."""

    def __init__(self, predictor: Predictor, *, allow_paths: bool = False):
        self.predictor, self.allow_paths = predictor, allow_paths

    def predict(self, images: Any) -> pd.DataFrame:
        """Joints of the people in each image.

        images: one or several, alone, in a list, in an array, in a table or mapping of one column, or each in
        a mapping of its own. Each is an array or nested lists of shape (height, width, 3), RGB from 0 to 255,
        or an encoded image (JPEG, PNG ...) as bytes or base64, turned upright by its EXIF data as in
        `pose predict`. Returns a row for each joint: image (position in `images`), person, the person's
        score, joint (name), x, y (image px, NaN where it was not found), confidence. Unlikely people are not
        left out. ImagesRefused, a UserError that names the image, where one cannot be used.
        """
        found: list[Prediction] = []
        try:
            given = _as_sequence(images)
            for first in range(0, len(given), BATCH):  # not more of them in memory, decoded
                decoded = [
                    _decode(image, f"images[{number}]", self.allow_paths)
                    for number, image in enumerate(given[first : first + BATCH], start=first)
                ]
                found += self.predictor.predict(decoded)
        except UserError as error:
            raise ImagesRefused(str(error)) from None
        tables = [people.to_frame().assign(image=image) for image, people in enumerate(found)]
        table = pd.concat(tables, ignore_index=True)[COLUMNS]
        if os.environ.get(SERVING):
            return table.astype(object).where(table.notna(), None)
        return table


def _as_sequence(images: Any) -> Sequence[Any]:
    """The images one by one, whatever MLflow or its server has made of what it was given."""
    if isinstance(images, (pd.DataFrame, Mapping)):
        if len(images.keys()) != 1:
            found = ", ".join(map(str, images.keys()))[:100] or "none"
            raise UserError(f"images: found columns {found}, expected one column of images")
        images = next(iter(dict(images).values()))
    if isinstance(images, pd.Series) or (isinstance(images, np.ndarray) and images.dtype.kind in "OSU"):
        images = images.tolist()
    depth, inner = 0, images
    while isinstance(inner, (list, tuple)):
        depth, inner = depth + 1, inner[0] if inner else None
    depth += np.ndim(inner) if isinstance(inner, np.ndarray) else 0
    if depth in (0, 3):
        return [images]
    if len(images) == 0:
        raise UserError("images: found none, expected at least one")
    # `{"inputs": [{"image": ...}, ...]}`: so MLflow's server takes pixels of several sizes.
    return [next(iter(one.values())) if isinstance(one, Mapping) and len(one) == 1 else one for one in images]


def _decode(image: Any, where: str, allow_paths: bool) -> np.ndarray:
    if allow_paths and (isinstance(image, Path) or (isinstance(image, str) and os.path.exists(image))):
        return read_image(image, upright=True)
    expected = (
        "expected RGB from 0 to 255 of shape (height, width, 3), or an encoded image as bytes or base64"
    )
    if isinstance(image, Path):
        raise UserError(f"{where}: found a path, {expected} (or model_config={{'allow_paths': True}})")
    if isinstance(image, str):
        try:
            data = base64.b64decode("".join(image.rpartition(",")[2].split()), validate=True)
        except (binascii.Error, ValueError):
            data = None
        if allow_paths and not is_image(data or b""):  # a path may be base64 by chance
            found = f"found neither a file of this name nor an image in base64 ({image[:200]!r})"
            raise UserError(f"{where}: {found}, {expected}, or a path")
        if data is None:
            found = f"found text that is not base64 ({image[:40]!r})"
            raise UserError(f"{where}: {found}, {expected} (for paths, model_config={{'allow_paths': True}})")
        image = data
    if isinstance(image, bytes):
        return decode_image(image, where, upright=True)
    try:
        value = np.asarray(image, dtype=None if isinstance(image, np.ndarray) else np.float64)
    except (TypeError, ValueError):
        raise UserError(f"{where}: found {type(image).__name__}, {expected}") from None
    if value.dtype.kind not in "fiu" or value.ndim != 3 or value.shape[2] != 3 or value.size == 0:
        raise UserError(f"{where}: found {value.dtype} of shape {value.shape}, {expected}")
    low, high = float(value.min()), float(value.max())
    if not 0 <= low <= high <= 255 or (value.dtype.kind == "f" and 0 < high <= 1):
        raise UserError(f"{where}: found numbers from {low:g} to {high:g}, {expected}")
    return value if value.dtype == np.uint8 else np.rint(value).astype(np.uint8)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PoseModel:
    """What MLflow calls, by this name, with the path of the weights.

    model_config: `allow_paths` is off by default, since paths are those of the machine that serves the model.
    """
    return PoseModel(Predictor.load(path), allow_paths=bool((model_config or {}).get("allow_paths")))
