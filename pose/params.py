"""`params.yaml` -> typed, frozen, complete. The only place that parses it; no default hides behind a missing key."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pose.errors import UserError
from pose.files import read_text, written_whole

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
CountOrNone = Annotated[int, Field(ge=0)]
# Weights from elsewhere say how large their network is, and a slip of the finger is a network of terabytes: far above all that is of use.
Channels = Annotated[int, Field(ge=1, le=4096)]
Layers = Annotated[int, Field(ge=1, le=32)]
Side = Annotated[int, Field(ge=64, le=4096, multiple_of=64)]  # of a network's input, px
Workers = Annotated[int, Field(ge=1, le=1024)]

Model = TypeVar("Model", bound=BaseModel)


class Frozen(BaseModel):
    """Immutable, and neither a missing nor an unknown key is let through. Numbers are not made from strings or booleans."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class DataParams(Frozen):
    root: str


class LspCounts(Frozen):
    train: CountOrNone
    test: CountOrNone


class MpiiCounts(Frozen):
    train: CountOrNone
    validation: CountOrNone


class SplitCounts(Frozen):
    train: CountOrNone
    validation: CountOrNone


class SyntheticParams(Frozen):
    lsp: LspCounts
    lspet: CountOrNone
    mpii: MpiiCounts
    coco: SplitCounts
    size: Annotated[int, Field(ge=64, le=4096)]


class CocoParams(Frozen):
    """images: at most so many, 0 for all. min_people: people with joints that an image must show. longest: long side, px, of
    the packed pictures. ignore_unlabelled: the loss does not look at people without joints, as it does not at crowds."""

    images: SplitCounts
    min_people: SplitCounts
    longest: Annotated[int, Field(ge=32)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    ignore_unlabelled: bool


class PrepareParams(Frozen):
    lspet_held_out: Share
    mpii_held_out: Share
    pack_size: Annotated[int, Field(ge=32)]
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    coco: CocoParams


class RotationParams(Frozen):
    deg: NotNegative
    clip: NotNegative
    probability: Share


class ScaleParams(Frozen):
    kind: Literal["linear", "log2"]
    spread: NotNegative


class AugmentParams(Frozen):
    rotation: RotationParams
    scale: ScaleParams
    flip: Share
    colour: Share


class SingleParams(Frozen):
    input: Side
    crop: Positive
    sigma: Positive
    target: Literal["subcell", "floor"]
    unlabelled: Literal["ignore", "zero"]
    loss: Literal["mse", "cross_entropy"]
    foreground: NotNegative
    augment: AugmentParams

    @model_validator(mode="after")
    def _cross_entropy_has_no_empty_maps(self) -> SingleParams:
        if self.loss == "cross_entropy" and self.unlabelled == "zero":
            raise ValueError("unlabelled: zero goes with loss: mse only; with cross_entropy it is ignore")
        return self


class MultiAugmentParams(Frozen):
    """Bounds of the uniform draws. rotation, hue: degrees. scale: of the square's side, 1 +- scale. shift: share of that side.
    saturation, contrast: factors 1 +- these. brightness: +- this share of white. flip: probability."""

    rotation: Annotated[float, Field(ge=0, le=180)]
    scale: Annotated[float, Field(ge=0, lt=1)]
    shift: NotNegative
    flip: Share
    hue: Annotated[float, Field(ge=0, le=180)]
    saturation: Share
    brightness: Share
    contrast: Share


class ThresholdParams(Frozen):
    """How peaks become people, see `pose.grouping`. choose: at the end of training `detection` and `tag` are replaced by those that score
    best on the images held out of training; the weights keep them."""

    choose: bool
    detection: Share
    tag: Positive
    reach: Positive


class MultiParams(Frozen):
    """input: side of what the network sees, px. sigma: of the target Gaussian, cells. target: as in `heatmap.encode`. people: at most so
    many people of an image have their tags taught. tag_gain: the network's tag maps are multiplied by it. held_out: training images that
    are not trained on, but watched, and used to choose the thresholds."""

    input: Side
    sigma: Positive
    target: Literal["subcell", "floor"]
    people: Count
    loss: Literal["mse", "focal"]
    focus: NotNegative
    foreground: NotNegative
    tag_gain: Positive
    held_out: CountOrNone
    thresholds: ThresholdParams
    augment: MultiAugmentParams

    @model_validator(mode="after")
    def _focus_has_a_slope(self) -> MultiParams:
        if 0 < self.focus < 1:
            raise ValueError(f"focus is {self.focus:g}, expected 0 or at least 1: between them the gradient of a right cell is infinite")
        return self


StemChannels = Annotated[int, Field(ge=2, le=4096, multiple_of=2)]
Stem = Annotated[list[StemChannels], Field(min_length=3, max_length=3)]


class HourglassParams(Frozen):
    """The stacked hourglass of residuals (arXiv 1603.06937), for either problem. stem: three numbers as published, two: strided."""

    kind: Literal["hourglass"]
    stacks: Layers
    modules: Layers
    features: Annotated[int, Field(ge=4, le=4096, multiple_of=4)]
    stem: Annotated[list[StemChannels], Field(min_length=2, max_length=3)]


class DiscriminatorParams(HourglassParams):
    """The hourglass of an adversary, whose stem halves nothing and therefore has but the one form."""

    stem: Stem


class AEParams(Frozen):
    """The hourglass of plain convolutions (arXiv 1611.05424), for several people. outputs: channels, of which twice the joints are used."""

    kind: Literal["ae"]
    stacks: Layers
    features: Channels
    increase: Annotated[int, Field(ge=0, le=4096)]
    outputs: Annotated[int, Field(ge=34, le=4096)]
    stem: Stem


NETWORKS = ("hourglass", "ae")
NetworkParams = Annotated[HourglassParams | AEParams, Field(discriminator="kind")]


class AdversaryParams(Frozen):
    """The discriminator and its game, see `pose.adversary`. lr: of its Adam. weight: of E(fake) in the pose network's loss (lambda_G).
    gamma: E(fake) over E(real) at which the game is balanced. balance_rate: of k_t (lambda_k). start: share of the steps before the game
    begins. gradient: the way from E(fake) back to the pose network, through the discriminator's input alone (the authors'), or through
    both that and the heatmaps that the repainting is compared with (the PyTorch port's)."""

    network: DiscriminatorParams
    lr: Positive
    weight: NotNegative
    gamma: Positive
    balance_rate: NotNegative
    start: Annotated[float, Field(ge=0, lt=1)]
    gradient: Literal["input", "both"]


class OptimizerParams(Frozen):
    name: Literal["rmsprop", "adam", "adamw"]
    weight_decay: NotNegative


class ScheduleParams(Frozen):
    name: Literal["constant", "cosine", "steps"]
    warmup: Share
    milestones: list[Share]
    gamma: Positive


TERMS = {"single": {"heatmap"}, "multi": {"heatmap", "pull", "push"}}  # of each problem's loss: `weights` has one for each


class TaskParams(Frozen):
    problem: Literal["single", "multi"]
    lr_scale: Positive
    network: NetworkParams
    weights: dict[str, NotNegative]
    adversary: AdversaryParams | None
    epochs: Count
    batch: Count
    optimizer: OptimizerParams
    schedule: ScheduleParams
    clip: NotNegative

    @model_validator(mode="after")
    def _fits_together(self) -> TaskParams:
        if self.problem == "single" and self.network.kind != "hourglass":
            raise ValueError(f"network.kind: {self.network.kind} goes with problem: multi only; with single it is hourglass")
        if self.weights.keys() != TERMS[self.problem]:
            expected = ", ".join(sorted(TERMS[self.problem]))
            raise ValueError(f"weights has the keys {', '.join(self.weights) or 'none'}, expected {expected} for problem: {self.problem}")
        return self


class TrainParams(Frozen):
    processes: Workers | Literal["auto"]
    threads: Workers
    workers: Annotated[int, Field(ge=0, le=1024)]
    precision: Literal["auto", "float32", "bfloat16"]
    channels_last: bool
    compile: bool
    deterministic: bool
    sync_batch_norm: bool
    validate_every: Count
    validation_people: CountOrNone
    training_people: CountOrNone
    checkpoint_every: Count
    checkpoint_minutes: NotNegative


class EvaluateParams(Frozen):
    weights: Literal["best", "last"]
    flip_test: bool
    batch: Count
    scales: Annotated[list[Annotated[float, Field(gt=0, le=8)]], Field(min_length=1, max_length=16)]
    train_images: CountOrNone

    @model_validator(mode="after")
    def _one_is_a_scale(self) -> EvaluateParams:
        if 1.0 not in self.scales:
            raise ValueError("scales: expected 1.0 among them: tags are read at that size")
        return self


class ReportParams(Frozen):
    people: Count


class Params(Frozen):
    """The whole of `params.yaml`."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    lr: Positive
    data: DataParams
    synthetic: SyntheticParams
    prepare: PrepareParams
    single: SingleParams
    multi: MultiParams
    tasks: dict[str, TaskParams]
    train: TrainParams
    evaluate: EvaluateParams
    report: ReportParams

    @field_validator("tasks", mode="before")
    @classmethod
    def _like_another(cls, tasks: Any) -> Any:
        """A task that is `like` another has all of its keys, but for those that it names itself."""
        if not isinstance(tasks, Mapping):
            return tasks
        whole = {}
        for name, task in tasks.items():
            if isinstance(task, Mapping) and "like" in task:
                plain = tasks.get(task["like"]) if isinstance(task["like"], str) else None
                if not isinstance(plain, Mapping) or "like" in plain:
                    expected = ", ".join(other for other, one in tasks.items() if isinstance(one, Mapping) and "like" not in one)
                    raise ValueError(f"{name}.like: found {task['like']!r}, expected a task like no other: {expected}")
                task = {**plain, **{key: value for key, value in task.items() if key != "like"}}
            whole[name] = task
        return whole

    def problem(self, kind: str) -> SingleParams | MultiParams:
        """The parameters of a problem, `single` or `multi`."""
        problems: dict[str, SingleParams | MultiParams] = {"single": self.single, "multi": self.multi}
        return problems[kind]

    def task(self, name: str) -> TaskParams:
        """The parameters of one task; UserError, listing the tasks there are, for another name."""
        if name not in self.tasks:
            raise UserError(f"params.yaml: no task {name!r}, expected one of: {', '.join(self.tasks)}")
        return self.tasks[name]


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Read a mapping by YAML 1.2 rules, by which `2e-4` and `2e-05` are numbers (PyYAML's 1.1 rules make them strings)."""
    try:
        found = YAML(typ="safe").load(read_text(path))
    except (YAMLError, ValueError, TypeError) as error:  # ValueError: of a number too long, a date that is none
        raise UserError(f"{path}: not valid YAML: {' '.join(str(error).split())[:300]}") from None
    except RecursionError:
        raise UserError(f"{path}: not valid YAML: nested too deep") from None
    if not isinstance(found, dict):
        raise UserError(f"{path}: found {type(found).__name__}, expected keys and values")
    return found


def parse(model: type[Model], values: Any, source: str) -> Model:
    """Plain values as a typed model; UserError naming the source, the offending keys, what was found and what is expected."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{source}: {_explain(error)}") from None


def parse_params(values: Mapping[str, Any], source: str = "params.yaml") -> Params:
    """The whole of `params.yaml` from plain values; UserError as in `parse`."""
    return parse(Params, values, source)


def load_params(path: str | Path = "params.yaml") -> Params:
    """Read and check `params.yaml`; UserError in one line if anything in it is unknown, missing or of the wrong type."""
    return parse_params(read_yaml(path), str(path))


def write_params(params: Params, path: str | Path = "params.yaml") -> None:
    """Write parameters as `load_params` reads them, without the comments of the original."""
    with written_whole(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        YAML(typ="safe").dump(params.model_dump(), file)


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys as dotted ones: `{"a": {"b": 1}}` -> `{"a.b": 1}`, as DVC and MLflow show them."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{name}."))
        else:
            flat[name] = value
    return flat


def _shown(value: Any) -> str:
    """For a message: not the whole of a list, which YAML's aliases can make longer than any memory."""
    return (reprlib.repr(value) if isinstance(value, list | dict) else repr(value))[:80]


def _explain(error: ValidationError) -> str:
    problems = error.errors()
    # An unknown key beside a missing one is most often a misspelling: say both, the unknown one first.
    order = {"extra_forbidden": 0, "missing": 1}
    problems.sort(key=lambda problem: order.get(problem["type"], 2))
    lines = []
    for problem in problems[:3]:
        parts = [str(part) for part in problem["loc"]]
        # pydantic puts the kind of network into the path, where params.yaml has no level of that name.
        key = ".".join(part for number, part in enumerate(parts) if not (number and parts[number - 1] == "network" and part in NETWORKS))
        if problem["type"] == "extra_forbidden":
            lines.append(f"unknown key {key[:100]}")
        elif problem["type"] == "missing":
            lines.append(f"missing key {key}")
        elif problem["type"] == "value_error":  # of a whole section, which says itself what it found
            lines.append(f"{key}: {problem['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{key}: found {_shown(problem['input'])}, {problem['msg'][0].lower()}{problem['msg'][1:]}")
    more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
    return "; ".join(lines) + more
