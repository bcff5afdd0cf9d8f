"""The parameters of `params.yaml`, see `pose.params.workspace`.

What is used is imported when it is used: those of inference need no PyTorch, those of networks do.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pose.params.data import CocoParams, DatasetParams, PrepareParams, SplitCounts, SyntheticParams
    from pose.params.problem import (
        AugmentParams,
        GroupBy,
        MultiAugmentParams,
        MultiInferenceParams,
        MultiParams,
        ScaleParams,
        SingleInferenceParams,
        SingleParams,
    )
    from pose.params.task import AdversaryParams, InitParams, OptimizerParams, ScheduleParams, TaskParams
    from pose.params.workspace import (
        EvaluateParams,
        Params,
        ReportParams,
        TrainParams,
        load_params,
        parse_params,
    )

__all__ = [
    "AdversaryParams",
    "AugmentParams",
    "CocoParams",
    "DatasetParams",
    "EvaluateParams",
    "GroupBy",
    "InitParams",
    "MultiAugmentParams",
    "MultiInferenceParams",
    "MultiParams",
    "OptimizerParams",
    "Params",
    "PrepareParams",
    "ReportParams",
    "ScaleParams",
    "ScheduleParams",
    "SingleInferenceParams",
    "SingleParams",
    "SplitCounts",
    "SyntheticParams",
    "TaskParams",
    "TrainParams",
    "load_params",
    "parse_params",
]


def __getattr__(name: str) -> Any:
    for module in ("problem", "data", "task", "workspace") if name in __all__ else ():
        if (found := getattr(import_module(f"pose.params.{module}"), name, None)) is not None:
            return found
    raise AttributeError(f"module 'pose.params' has no attribute {name!r}")
