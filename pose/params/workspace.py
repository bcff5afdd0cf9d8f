"""The parameters of `params.yaml`: typed, frozen and complete. No key has a default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pose.io.errors import UserError
from pose.io.paths import PREPARED, prepared_set
from pose.io.schema import Frozen, parse, read_yaml
from pose.models.limits import MAX_SIDE, Batch, Count, CountOrZero, CropScale, Rate, Scale, TaskName
from pose.params.data import SURROUNDINGS, DataParams, DatasetParams, PrepareParams, SyntheticParams
from pose.params.problem import MultiInferenceParams, MultiParams, SingleInferenceParams, SingleParams
from pose.params.task import TaskParams


class TrainParams(Frozen):
    """For every task, see the comments of params.yaml."""

    processes: Annotated[int, Field(ge=1, le=64)] | Literal["auto"]
    threads: Annotated[int, Field(ge=1, le=1024)]
    workers: Annotated[int, Field(ge=0, le=256)]
    timeout: Annotated[float, Field(ge=5, le=86400)]
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool
    compile: bool
    deterministic: bool
    sync_batch_norm: bool
    val_samples: CountOrZero
    train_samples: CountOrZero
    checkpoint_every: Count
    checkpoint_minutes: Annotated[float, Field(ge=0, le=1e6)]


class EvaluateParams(Frozen):
    """scales, crop_scales: sizes at which people are shown; 1 is always among them (see `Params.scales`).

    train_images: how many trained-on images too.
    refine: multi-person tasks, and the task of problem single whose weights look again at their people.
    """

    weights: Literal["best", "last"]
    refine: dict[TaskName, TaskName]
    flip_test: bool
    batch: Batch
    scales: Annotated[list[Scale], Field(min_length=1, max_length=16)]
    crop_scales: Annotated[list[CropScale], Field(min_length=1, max_length=16)]
    train_images: CountOrZero


class ReportParams(Frozen):
    people: Annotated[int, Field(ge=1, le=1000)]


class Params(Frozen):
    """All of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)]
    lr: Rate
    data: DataParams
    synthetic: SyntheticParams
    prepare: PrepareParams
    datasets: dict[TaskName, DatasetParams]
    single: SingleParams
    multi: MultiParams
    tasks: dict[TaskName, TaskParams]
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams

    @field_validator("tasks", mode="before")
    @classmethod
    def _extend(cls, tasks: Any) -> Any:
        """A task that `extends` another has all of its keys, except for those that it sets itself."""
        if not isinstance(tasks, dict):
            return tasks
        bases = [name for name, task in tasks.items() if isinstance(task, dict) and "extends" not in task]
        extended = dict(tasks)
        for name, task in tasks.items():
            if isinstance(task, dict) and "extends" in task:
                if task["extends"] not in bases:
                    expected = f"expected a task that extends none: {', '.join(map(str, bases))}"
                    raise ValueError(f"{name}.extends: found {task['extends']!r}, {expected}")
                extended[name] = {**tasks[task["extends"]], **task}
                del extended[name]["extends"]
        return extended

    @model_validator(mode="after")
    def _largest_input_is_limited(self) -> Params:
        sizes = {"multi.input_size": self.multi.input_size}
        for name, task in self.tasks.items():
            section = self.problem(name)  # an override that does not fit is refused here
            if task.problem == "multi" and task.override:
                sizes[f"tasks.{name}.override.input_size"] = section.input_size
        scale = max(self.evaluate.scales)
        for key, size in sizes.items():
            if size * scale > MAX_SIDE:
                expected = (
                    f"expected at most {MAX_SIDE / size:g}, so that the input has at most {MAX_SIDE} px"
                )
                raise ValueError(f"evaluate.scales: found {scale:g} of {key} {size}, {expected}")
        return self

    @model_validator(mode="after")
    def _smallest_crops_are_packed(self) -> Params:
        scale = min(self.evaluate.crop_scales)
        for name in self.tasks:
            section = self.problem(name)
            if isinstance(section, SingleParams) and section.crop / min(scale, 1) > SURROUNDINGS:
                least = section.crop / SURROUNDINGS
                expected = f"expected at least {least:.2g} with the crop {section.crop:g} of task {name}"
                reason = f"{SURROUNDINGS:g} times a person's height are packed"
                raise ValueError(f"evaluate.crop_scales: found {scale:g}, {expected}: {reason}")
        return self

    @model_validator(mode="after")
    def _no_task_begins_from_its_own_weights(self) -> Params:
        for name, task in self.tasks.items():
            if task.init and Path(task.init.weights).parts[:2] == ("models", name):
                expected = "expected a copy elsewhere, since training replaces this file"
                raise ValueError(f"tasks.{name}.init.weights: found {task.init.weights}, {expected}")
        return self

    @model_validator(mode="after")
    def _people_are_refined_by_a_single_person_task(self) -> Params:
        for refined, task in self.evaluate.refine.items():
            for name, problem in ((refined, "multi"), (task, "single")):
                if name not in self.tasks or self.tasks[name].problem != problem:
                    fitting = ", ".join(one for one, spec in self.tasks.items() if spec.problem == problem)
                    expected = f"expected a task of problem {problem}: {fitting}"
                    raise ValueError(f"evaluate.refine: found {name!r}, {expected}")
        return self

    @model_validator(mode="after")
    def _data_sets_are_known(self) -> Params:
        if both := self.datasets.keys() & PREPARED.keys():
            raise ValueError(
                f"datasets: found {min(both)!r}, expected another name than that of a built-in set"
            )
        problems = {"lsp_mpii": ["single"], "coco": ["multi", "single"]}
        problems |= {name: [*spec.problems] for name, spec in self.datasets.items()}
        for name, task in self.tasks.items():
            if task.problem not in problems.get(task.dataset, []):
                fitting = ", ".join(one for one, kinds in problems.items() if task.problem in kinds)
                expected = f"expected one prepared for problem {task.problem}: {fitting}"
                raise ValueError(f"tasks.{name}.dataset: found {task.dataset!r}, {expected}")
        return self

    def dataset(self, name: str) -> DatasetParams:
        """The parameters of a data set of one's own; UserError, listing them, for another name."""
        if name not in self.datasets:
            names = ", ".join(self.datasets) or "none"
            raise UserError(f"params.yaml: no data set {name!r}, expected one of datasets: {names}")
        return self.datasets[name]

    def prepared(self, task: str) -> Path:
        """Where the prepared set of a task is, relative to the workspace."""
        spec = self.task(task)
        return prepared_set(spec.dataset, spec.problem)

    def data_source(self, task: str) -> str:
        """What the data set of a task is made of: `data.root`, or the sources of one's own, in words."""
        name = self.task(task).dataset
        return ", ".join(self.datasets[name].sources) if name in self.datasets else self.data.root

    def problem(self, task: str) -> SingleParams | MultiParams:
        """The section `single` or `multi`, which a task's problem is, with what the task overrides of it."""
        spec = self.task(task)
        section = self.single if spec.problem == "single" else self.multi
        if not spec.override:
            return section
        values = _merged(section.model_dump(), spec.override)
        return parse(type(section), values, f"tasks.{task}.override")

    def is_mirrored(self, task: str) -> bool:
        """Whether a task is trained, and then tuned, on mirrored images too."""
        return self.problem(task).augment.flip > 0

    def has_flip_test(self, task: str) -> bool:
        """Whether a task is evaluated on mirrored images too: not if it has seen none in training."""
        return self.evaluate.flip_test and self.is_mirrored(task)

    def scales(self, task: str) -> list[float]:
        """The sizes at which a task is evaluated: of crops that show more or less, or of the whole input."""
        is_single = self.task(task).problem == "single"
        return self.evaluate.crop_scales if is_single else self.evaluate.scales

    def task(self, name: str) -> TaskParams:
        """The parameters of one task; UserError, listing the tasks that exist, for another name."""
        if name not in self.tasks:
            raise UserError(f"params.yaml: no task {name!r}, expected one of: {', '.join(self.tasks)}")
        return self.tasks[name]


def packing_fault(prepare: PrepareParams, problem: SingleInferenceParams | MultiInferenceParams) -> str:
    """Why a network would see large images enlarged: fewer pixels are packed; empty if it would not."""
    size = problem.input_size
    if isinstance(problem, SingleInferenceParams):
        key, value, needed = "pack_size", prepare.pack_size, math.ceil(size * SURROUNDINGS / problem.crop)
    else:
        key, value, needed = "coco.longest", prepare.coco.longest, size
    if value >= needed:
        return ""
    return f"found prepare.{key} {value}, expected {needed} or more for an input of {size} px"


def _merged(values: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with those of `changes` in their places."""
    merged = dict(values)
    for key, new in changes.items():
        old = merged.get(key)
        merged[key] = _merged(old, new) if isinstance(old, dict) and isinstance(new, Mapping) else new
    return merged


def parse_params(values: Mapping[str, Any], source: str = "params.yaml") -> Params:
    """Parameters from plain values; UserError in one line for wrong keys."""
    return parse(Params, values, source)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read `params.yaml`; UserError in one line for unknown, missing and wrong keys."""
    return parse_params(read_yaml(path), str(path))
