"""What is kept of a model in MLflow beside its weights, so that it can be served without this repository."""

from __future__ import annotations

import base64
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, Schema

import pose
from pose.io.images import encode_jpeg
from pose.tracking.pyfunc_model import COLUMNS

SERVING = ("mlflow", "pandas")  # of `pose[train]`, beside all that the package needs without it
TYPES = [DataType.long, DataType.long, DataType.double, DataType.string, *[DataType.double] * 3]


def model_settings(weights: Path) -> dict[str, Any]:
    """The arguments of `mlflow.pyfunc.log_model` and `save_model`: weights, code, requirements, signature.

    The signature has no inputs. MLflow knows none for images of any size, as arrays or encoded: with a column
    of base64 it refuses arrays, with a tensor base64, with a column of any type lists of arrays. The example
    shows the form that any client can send.
    """
    outputs = Schema([ColSpec(kind, name) for name, kind in zip(COLUMNS, TYPES, strict=True)])
    example = base64.b64encode(encode_jpeg(np.full((64, 48, 3), 128, dtype=np.uint8), 90)).decode()
    return {
        "data_path": str(weights),
        "loader_module": "pose.tracking.pyfunc_model",
        "code_paths": [str(Path(pose.__file__).parent)],
        "pip_requirements": _requirements(),
        "model_config": {"allow_paths": False},
        "signature": ModelSignature(outputs=outputs),
        "input_example": pd.DataFrame({"image": [example]}),
    }


def _requirements() -> list[str]:
    """Those of prediction and of the server."""
    try:
        lines = [line.partition(";") for line in requires("pose") or []]
    except PackageNotFoundError:  # run from its folder, not installed
        return []
    own = [line for line, _, marker in lines if "extra" not in marker]
    return own + [line for line, _, marker in lines if "train" in marker and line.startswith(SERVING)]
