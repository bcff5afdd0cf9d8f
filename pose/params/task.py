"""Parameters of a task: network, loss weights, optimizer, adversary."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from pose.io.schema import Frozen
from pose.models.limits import (
    Batch,
    Count,
    FileName,
    Rate,
    Share,
    TaskName,
    Weight,
)
from pose.models.networks import DiscriminatorParams, NetworkParams


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


class InitParams(Frozen):
    """Model weights to begin from, see `pose.tasks.transfer`.

    frozen: share of the steps in which the tensors taken whole stay as they are. lr_scale: of their learning
    rate, beside the task's own; the others have the task's.
    """

    weights: FileName
    frozen: Share
    lr_scale: Rate


class RMSpropParams(Frozen):
    name: Literal["rmsprop"]
    weight_decay: Share


Beta = Annotated[float, Field(ge=0, lt=1)]
Betas = Annotated[list[Beta], Field(min_length=2, max_length=2)]


class AdamParams(Frozen):
    """betas: decay of the running means of gradient and squared gradient."""

    name: Literal["adam", "adamw"]
    weight_decay: Share
    betas: Betas


class MuonParams(Frozen):
    """See `pose.tasks.muon`. betas: of AdamW, for what Muon does not train. rest_lr: its rate over Muon's."""

    name: Literal["muon"]
    weight_decay: Share
    momentum: Beta
    betas: Betas
    rest_lr: Rate


OptimizerParams = Annotated[RMSpropParams | AdamParams | MuonParams, Field(discriminator="name")]


class ScheduleParams(Frozen):
    """Of the learning rate. warmup, milestones: shares of all steps. gamma: factor at each milestone."""

    name: Literal["constant", "cosine", "steps"]
    warmup: Share
    milestones: Annotated[list[Share], Field(max_length=100)]
    gamma: Annotated[float, Field(gt=0, le=1)]


class TaskParams(Frozen):
    """dataset: `lsp_mpii`, `coco`, or one of `datasets`. init: None draws all initial weights.

    override: keys of the problem's section of params.yaml, nested as there, that this task has as its own.

    weights: of the loss terms, by name. validate_every: epochs. clip: largest gradient norm, 0 for none. ema:
    decay a step of the moving average of the weights that is validated and written, 0 for none.
    """

    problem: Literal["single", "multi"]
    dataset: TaskName
    override: dict[str, Any]
    lr_scale: Rate
    network: NetworkParams
    init: InitParams | None
    weights: dict[str, Weight]
    adversary: AdversaryParams | None
    epochs: Annotated[int, Field(ge=1, le=10**6)]
    validate_every: Count
    batch: Batch
    optimizer: OptimizerParams
    schedule: ScheduleParams
    clip: Annotated[float, Field(ge=0, le=1e6)]
    ema: Beta
