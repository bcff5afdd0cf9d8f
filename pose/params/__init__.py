"""The parameters of `params.yaml`, see `pose.params.workspace`.

What is used is imported when it is used: those of inference need no PyTorch, those of networks do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.params.data import *  # noqa: F403
    from pose.params.problem import *  # noqa: F403
    from pose.params.task import *  # noqa: F403
    from pose.params.workspace import *  # noqa: F403


def __getattr__(name: str) -> Any:
    for module in ("problem", "data", "task", "workspace") if not name.startswith("_") else ():
        if (found := getattr(import_module(f"pose.params.{module}"), name, None)) is not None:
            return found
    raise AttributeError(f"module 'pose.params' has no attribute {name!r}")
