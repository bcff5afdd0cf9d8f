"""Reproducible 2D human pose estimation.

Stacked hourglasses, associative embedding, self-adversarial training.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.inference.predictor import Predictor
    from pose.params import load_params
    from pose.training.trainer import train

__all__ = ["Predictor", "__version__", "load_params", "train"]
__version__ = "0.2.0"

_HOMES = {
    "Predictor": "pose.inference.predictor",
    "load_params": "pose.params",
    "train": "pose.training.trainer",
}


def __getattr__(name: str) -> Any:
    """What is used is imported when it is used: `import pose` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module 'pose' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
