"""A model is a problem and its network; a task is a model in training. The one training step is here.

`advpose` and `advpose-ae` are `hgpose` and `hgpose-ae` with an adversary, trained by the same step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from pose.data.batch import Batch
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.io.errors import UserError
from pose.io.schema import parse
from pose.keypoints.skeleton import Skeleton
from pose.models.blocks import PoseNetwork
from pose.models.init import InitialWeights
from pose.models.networks import NetworkParams
from pose.models.weights import NO_MEAN, Weights, build_network
from pose.params import Params, SingleInferenceParams, TaskParams
from pose.tasks.adversary import Adversary
from pose.tasks.base import Problem, ProblemData, ProblemParams, Terms
from pose.tasks.multi import MultiData, MultiPerson
from pose.tasks.optimizers import build_optimizer, parameter_groups, schedule_factor
from pose.tasks.single import SingleData, SinglePerson
from pose.tasks.transfer import Transfer, transfer_weights

PROBLEMS: dict[str, type[Problem]] = {"single": SinglePerson, "multi": MultiPerson}


@dataclass(kw_only=True)
class Model:
    """A network and its problem.

    network_params: what the network is built from. mean: colour (RGB, 0 to 1) that is subtracted from images,
    not zero for some imported weights. layout: of images in memory, which decides that of all maps. run: the
    compiled or wrapped network, if it is not `net` itself.
    """

    name: str
    problem: Problem
    network_params: NetworkParams
    net: PoseNetwork
    device: torch.device
    mean: tuple[float, float, float] = NO_MEAN
    layout: torch.memory_format = torch.channels_last
    autocast: bool = False
    run: Callable[[Tensor], Tensor] | None = None

    def __call__(self, image_B3HW: Tensor) -> Tensor:
        """The network's output in float32; computed in bfloat16 if `train.precision` says so."""
        image_B3HW = image_B3HW.contiguous(memory_format=self.layout)
        if any(self.mean):
            image_B3HW = image_B3HW - image_B3HW.new_tensor(self.mean)[:, None, None]
        if self.net.training:
            self.net.count_batches()
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.autocast):
            run = self.net if self.run is None else self.run  # a compiled network has no truth value
            output = run(image_B3HW)
        return output.float() if self.autocast else output

    def weights(self) -> Weights:
        """Its model weights; the tensors are the network's own, not copies."""
        return Weights(
            task=self.name,
            problem=self.problem.kind,
            network=self.network_params,
            outputs=self.problem.outputs,
            skeleton=self.problem.skeleton,
            inference=self.problem.inference_params(),
            tensors=self.net.state_dict(),
            mean=self.mean,
        )


@dataclass(kw_only=True)
class Task(Model):
    """A model in training.

    lr: the peak learning rate. transfer: what it has taken from given weights. average: of the weights of
    the last steps, if `tasks.*.ema` asks for one.
    """

    params: TaskParams
    lr: float
    optimizer: torch.optim.Optimizer
    adversary: Adversary | None = None
    transfer: Transfer | None = None
    average: AveragedModel | None = None

    def step(self, batch: Batch, *, done: int, steps: int) -> Terms:
        """One optimisation step, after `done` of `steps` steps.

        Returns the unweighted terms and their weighted sum `loss`; with an active adversary also its metrics,
        and weight * E(fake) is then part of the sum.
        """
        for group in self.optimizer.param_groups:
            factor = schedule_factor(self.params.schedule, done, steps, start=group["start"])
            group["lr"] = self.lr * group["lr_scale"] * factor
        if self.transfer and self.params.init and self.params.init.frozen:
            self.transfer.freeze(self.net, done < self.params.init.frozen * steps)
        image_B3HW = batch.inputs.image_B3HW
        output = self(image_B3HW)
        terms = self.problem.losses(output, batch.targets)
        loss = torch.stack([self.params.weights[name] * term for name, term in terms.items()]).sum()
        roots: list[Tensor] = [loss]
        grads: list[Tensor | None] = [None]
        adversarial: Terms = {}
        total = loss.detach()
        if self.adversary and self.adversary.is_active(done, steps):
            real_BKhw, fake_BKhw = self.problem.adversarial_inputs(output, batch.targets)
            adversarial, fake_grad_BKhw = self.adversary.step(image_B3HW, real_BKhw, fake_BKhw)
            total = total + self.adversary.params.weight * adversarial["E_fake"]
            if fake_grad_BKhw is not None:
                roots.append(fake_BKhw)
                grads.append(fake_grad_BKhw)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(roots, grads)
        if self.params.clip:
            nn.utils.clip_grad_norm_(self.net.parameters(), self.params.clip)
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.net)
        return {name: term.detach() for name, term in terms.items()} | {"loss": total} | adversarial

    def averaged(self) -> Model:
        """What is validated and written: the model with its averaged weights, itself without an average."""
        if self.average is None:
            return self
        own = {field.name: getattr(self, field.name) for field in fields(Model)}
        return Model(**own | {"net": self.average.module, "run": None})


def build_problem(params: ProblemParams, skeleton: Skeleton) -> Problem:
    """The problem with these parameters; those of inference are enough to predict."""
    kind = "single" if isinstance(params, SingleInferenceParams) else "multi"
    return PROBLEMS[kind](params, skeleton)


def open_data(params: ProblemParams, prepared: Path, *, max_val: int = 0) -> ProblemData:
    """The prepared set of a problem; UserError if it cannot be read. max_val: most `val` rows, 0 for all."""
    if isinstance(params, SingleInferenceParams):
        return SingleData(PersonSet(prepared), params, max_val)
    return MultiData(ImageSet(prepared), params, max_val)


def load_model(
    weights: Weights, source: str, device: torch.device, train_params: ProblemParams | None = None
) -> Model:
    """Model weights as a model in evaluation mode; UserError, naming the source, if they cannot be used.

    train_params: take all other parameters from here, to train or evaluate; those of the weights stay.
    """
    inference_type = PROBLEMS[weights.problem].inference_type
    params: ProblemParams = parse(inference_type, weights.inference, f"{source}: inference")
    if train_params is not None:
        own = {name: getattr(params, name) for name in inference_type.model_fields}
        params = train_params.model_copy(update=own)
    problem = build_problem(params, weights.skeleton)
    if weights.outputs < problem.outputs:
        raise UserError(f"{source}: found {weights.outputs} output channels, expected {problem.outputs}")
    return Model(
        name=weights.task,
        problem=problem,
        network_params=weights.network,
        net=build_network(weights, source, device),
        device=device,
        mean=weights.mean,
    )


def build_task(params: Params, name: str, *, skeleton: Skeleton, device: torch.device) -> Task:
    """A task with initial weights drawn from the seed, or taken from those that it begins from.

    UserError if its parameters, or those weights, cannot be used.
    """
    spec = params.task(name)
    problem = build_problem(params.problem(name), skeleton)
    if set(spec.weights) != set(problem.terms):
        found = f"found the keys {', '.join(spec.weights) or 'none'}"
        expected = f"expected {', '.join(problem.terms)} for problem: {problem.kind}"
        raise UserError(f"tasks.{name}.weights: {found}, {expected}")
    layout = torch.channels_last if params.train.channels_last else torch.contiguous_format
    autocast = uses_bfloat16(params.train.precision, device)
    with InitialWeights(params.seed):
        # Before the adversary, so that it begins as in the task without one.
        net = problem.build_network(spec.network)
        net.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        settings: dict[str, Any] = {"device": device, "layout": layout, "autocast": autocast}
        adversary = Adversary(spec.adversary, joints=len(skeleton), **settings) if spec.adversary else None
    transfer = transfer_weights(net, name, spec, problem) if spec.init else None
    groups = parameter_groups(net, spec.optimizer, spec.init, transfer.whole if transfer else ())
    if params.train.compile and adversary:
        adversary.net.compile()
    lr = params.lr * spec.lr_scale
    return Task(
        name=name,
        problem=problem,
        network_params=spec.network,
        net=net,
        device=device,
        mean=transfer.mean if transfer else NO_MEAN,
        layout=layout,
        autocast=autocast,
        run=torch.compile(net) if params.train.compile else None,
        params=spec,
        lr=lr,
        optimizer=build_optimizer(groups, spec.optimizer, lr),
        adversary=adversary,
        transfer=transfer,
        average=_average(net, spec.ema) if spec.ema else None,
    )


def _average(net: PoseNetwork, decay: float) -> AveragedModel:
    """An exponential moving average of weights and running statistics, which begins with those of step 1.

    Buffers of whole numbers (counts, or a network's own constants) are those of the last step.
    """
    update_floats = get_ema_multi_avg_fn(decay)

    def update(average_N: Sequence[Tensor], current_N: Sequence[Tensor], updates: Tensor | int) -> None:
        if average_N[0].is_floating_point():
            update_floats([*average_N], [*current_N], updates)
            return
        for average, current in zip(average_N, current_N, strict=True):
            average.copy_(current)

    return AveragedModel(net, multi_avg_fn=update, use_buffers=True).eval()


def uses_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether to compute in bfloat16. `auto`: if the device has instructions for it; else it is slower."""
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    # Private names of torch; a version that lacks them computes in float32.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return device.type == "cpu" and any(getattr(torch.cpu, name, lambda: False)() for name in names)
