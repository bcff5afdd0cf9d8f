"""The parameters of `params.yaml`: typed, frozen and complete. No key has a default."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from pose.io.errors import UserError
from pose.io.schema import Frozen, parse, read_yaml
from pose.models.limits import (
    MAX_SIDE,
    Batch,
    Count,
    CountOrZero,
    Degrees,
    DrawnCount,
    FolderName,
    InputSize,
    JpegQuality,
    Rate,
    Scale,
    ScaleSpread,
    Share,
    Sigma,
    Spread,
    TaskName,
    Weight,
)
from pose.models.networks import DiscriminatorParams, NetworkParams

Target = Literal["subcell", "floor"]  # see `pose.keypoints.heatmap`


class DataParams(Frozen):
    root: FolderName


class LspCounts(Frozen):
    train: DrawnCount
    test: DrawnCount


class DrawnSplits(Frozen):
    train: DrawnCount
    validation: DrawnCount


class SplitCounts(Frozen):
    train: CountOrZero
    validation: CountOrZero


class SyntheticParams(Frozen):
    """How many synthetic people (coco: images) each set has. size: longer side of the LSP-type images, px."""

    lsp: LspCounts
    lspet: DrawnCount
    mpii: DrawnSplits
    coco: DrawnSplits
    size: Annotated[int, Field(ge=64, le=MAX_SIDE)]


class CocoParams(Frozen):
    """images: at most so many, 0 for all. min_people: people with joints that an image must show.

    longest: long side of the packed images, px. ignore_unlabelled: people without joints are masked from the
    loss, as crowds are. assume_coco_joints: where a file does not say which joints it has. exif: how images
    are read that have the annotated size both as stored and turned upright as their EXIF data says.
    """

    images: SplitCounts
    min_people: SplitCounts
    longest: Annotated[int, Field(ge=32, le=MAX_SIDE)]
    jpeg_quality: JpegQuality
    ignore_unlabelled: bool
    assume_coco_joints: bool
    exif: Literal["stored", "upright"]


class PrepareParams(Frozen):
    """held_out: shares kept for validation. pack_size: side of a person's packed surroundings, px."""

    lspet_held_out: Share
    mpii_held_out: Share
    pack_size: Annotated[int, Field(ge=32, le=MAX_SIDE)]
    jpeg_quality: JpegQuality
    coco: CocoParams


class RotationParams(Frozen):
    """normal(0, deg), clipped to +- clip, with this probability, else 0; degrees."""

    deg: Degrees
    clip: Degrees
    probability: Share


class ScaleParams(Frozen):
    """linear: 1 + normal(0, spread) clipped at spread. log2: 2 ** normal(0, spread), clipped at 2 spread."""

    kind: Literal["linear", "log2"]
    spread: ScaleSpread


class AugmentParams(Frozen):
    """flip: probability. colour: the gain of each channel is uniform in 1 +- colour."""

    rotation: RotationParams
    scale: ScaleParams
    flip: Share
    colour: Share


class SingleInferenceParams(Frozen):
    """What inference needs and model weights store.

    input_size: side of the crop, px. crop: its side over the person's height. sigma: of the target Gaussian,
    heatmap cells.
    """

    input_size: InputSize
    crop: Annotated[float, Field(ge=0.25, le=10)]
    sigma: Sigma
    target: Target
    loss: Literal["mse", "cross_entropy"]


class SingleParams(SingleInferenceParams):
    """unlabelled: leave joints without annotation out of the loss, or train them towards an empty map.

    foreground: the squared error of a cell is weighted by 1 + foreground * target.
    """

    unlabelled: Literal["ignore", "zero"]
    foreground: Weight
    augment: AugmentParams

    @model_validator(mode="after")
    def _cross_entropy_has_no_empty_maps(self) -> SingleParams:
        if self.loss == "cross_entropy" and self.unlabelled == "zero":
            raise ValueError("unlabelled: found zero, expected ignore with loss: cross_entropy")
        return self


class MultiAugmentParams(Frozen):
    """Bounds of uniform draws: rotation, hue: +- degrees. scale: of the square's side, 1 +- scale.

    shift: +- share of that side. saturation, contrast: factors 1 +- these. brightness: +- this share of
    white. flip: probability.
    """

    rotation: Degrees
    scale: Spread
    shift: Share
    flip: Share
    hue: Degrees
    saturation: Share
    brightness: Share
    contrast: Share


class ThresholdParams(Frozen):
    """Of grouping, see `pose.keypoints.grouping`. max_distance: without tags.

    tune: at the end of training, detection and tag are replaced by the values of the highest AP on held-out
    images, which the model weights then store.
    """

    tune: bool
    detection: Share
    tag: Annotated[float, Field(gt=0, le=1e4)]
    max_distance: Annotated[float, Field(ge=0.001, le=10)]


class MultiInferenceParams(Frozen):
    """What inference needs and model weights store.

    input_size: side of the square input, px. tag_gain: a factor for the network's tag maps.
    """

    input_size: InputSize
    target: Target
    loss: Literal["mse", "focal"]
    tag_gain: Annotated[float, Field(gt=0, le=1e4)]
    thresholds: ThresholdParams


class MultiParams(MultiInferenceParams):
    """sigma: of the target Gaussian, cells. people: of an image, whose tags are trained, at most.

    foreground: the error of a cell is weighted by 1 + foreground * target. held_out: number of training
    images used for validation and to tune thresholds instead.
    """

    sigma: Sigma
    people: Count
    focal_gamma: Annotated[float, Field(ge=0, le=10)]
    foreground: Weight
    held_out: CountOrZero
    augment: MultiAugmentParams

    @field_validator("focal_gamma")
    @classmethod
    def _focal_gradient_is_finite(cls, gamma: float) -> float:
        if 0 < gamma < 1:
            raise ValueError(f"found {gamma:g}, expected 0 or at least 1 (between, gradients are infinite)")
        return gamma


class AdversaryParams(Frozen):
    """See `pose.tasks.adversary`. lr: of the discriminator. weight: of E(fake) in the pose loss (lambda_G).

    gamma: E(fake) over E(real) at balance. balance_rate: of k_t (lambda_k). start_fraction: share of the
    steps that the pose network first trains alone. gradient: E(fake) reaches the pose network through the
    discriminator's input alone (the authors' code) or its target too (the PyTorch port).
    """

    network: DiscriminatorParams
    lr: Rate
    weight: Weight
    gamma: Annotated[float, Field(gt=0, le=100)]
    balance_rate: Annotated[float, Field(ge=0, le=100)]
    start_fraction: Annotated[float, Field(ge=0, lt=1)]
    gradient: Literal["input", "both"]


class OptimizerParams(Frozen):
    name: Literal["rmsprop", "adam", "adamw"]
    weight_decay: Share


class ScheduleParams(Frozen):
    """Of the learning rate. warmup, milestones: shares of all steps. gamma: factor at each milestone."""

    name: Literal["constant", "cosine", "steps"]
    warmup: Share
    milestones: Annotated[list[Share], Field(max_length=100)]
    gamma: Annotated[float, Field(gt=0, le=1)]


class TaskParams(Frozen):
    """weights: of the loss terms, by name. clip: largest gradient norm, 0 for none."""

    problem: Literal["single", "multi"]
    lr_scale: Rate
    network: NetworkParams
    weights: dict[str, Weight]
    adversary: AdversaryParams | None
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    batch: Batch
    optimizer: OptimizerParams
    schedule: ScheduleParams
    clip: Annotated[float, Field(ge=0, le=1e6)]


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
    validate_every: Count
    val_samples: CountOrZero
    train_samples: CountOrZero
    checkpoint_every: Count
    checkpoint_minutes: Annotated[float, Field(ge=0, le=1e6)]


class EvaluateParams(Frozen):
    """scales: of the input size; 1 is always among them. train_images: how many trained-on images too."""

    weights: Literal["best", "last"]
    flip_test: bool
    batch: Batch
    scales: Annotated[list[Scale], Field(min_length=1, max_length=16)]
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
        size, scale = self.multi.input_size, max(self.evaluate.scales)
        if size * scale > MAX_SIDE:
            expected = f"expected at most {MAX_SIDE / size:g}, so that the input has at most {MAX_SIDE} px"
            raise ValueError(f"evaluate.scales: found {scale:g} of multi.input_size {size}, {expected}")
        return self

    def problem(self, kind: str) -> SingleParams | MultiParams:
        """The parameters of a problem, `single` or `multi`."""
        return self.single if kind == "single" else self.multi

    def task(self, name: str) -> TaskParams:
        """The parameters of one task; UserError, listing the tasks that exist, for another name."""
        if name not in self.tasks:
            raise UserError(f"params.yaml: no task {name!r}, expected one of: {', '.join(self.tasks)}")
        return self.tasks[name]


def parse_params(values: Mapping[str, Any], source: str = "params.yaml") -> Params:
    """Parameters from plain values; UserError in one line for wrong keys."""
    return parse(Params, values, source)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read `params.yaml`; UserError in one line for unknown, missing and wrong keys."""
    return parse_params(read_yaml(path), str(path))
