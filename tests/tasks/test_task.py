"""Building a task, its one step, and loading a model or problem from weights."""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import COCO, CPU, MPII, ROOT, build_cpu_task, user_error, with_values
from torch import Tensor, nn

from pose.data.loader import Loader, ResumableBatchSampler
from pose.experiments.presets import params_with
from pose.inference.batches import predict_dataset
from pose.inference.predictor import Predictor
from pose.models.weights import save_weights
from pose.params import MultiParams, SingleParams
from pose.tasks.task import Task, build_problem, build_task, load_model, open_data, uses_bfloat16

NETWORKS: dict[str, dict[str, Any]] = {
    "hourglass": {"kind": "hourglass", "stacks": 2, "modules": 1, "features": 8, "stem": [4, 8, 8]},
    "ae": {"kind": "ae", "stacks": 2, "features": 8, "increase": 4, "outputs": 68, "stem": [4, 8, 8]},
    "baseline": {"kind": "simple_baseline", "stem": 8, "widths": [8, 8, 16], "blocks": 1, "upsampled": 16},
}


def equal(one: nn.Module, other: nn.Module) -> bool:
    tensors = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in tensors)


# Building


def test_initial_weights_are_those_of_the_global_generator_but_drawn_without_it(params):
    def built(seed: int) -> nn.Module:
        return build_cpu_task(params.model_copy(update={"seed": seed}), "hgpose-ae").net

    before = torch.get_rng_state()
    seeds = list(range(6))
    with ThreadPoolExecutor(3) as pool:  # at once, which a seeded global generator would not allow
        together = list(pool.map(built, seeds))
    assert torch.equal(before, torch.get_rng_state())
    assert all(equal(net, built(seed)) for net, seed in zip(together, seeds, strict=True))
    assert not equal(together[0], together[1])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        expected = build_problem(params.multi, COCO).build_network(params.task("hgpose-ae").network)
    assert equal(built(3), expected)


def test_training_and_prediction_touch_no_global_generator(params, prepared, tmp_path):
    def states() -> list[Any]:
        return [random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()]

    before = states()
    task, data = build_cpu_task(params, "advpose"), open_data(params.single, prepared, max_val=4)
    rows = data.rows("train")
    batches = ResumableBatchSampler(len(rows), 4, seed=1, start=0, stop=2)
    for raw in Loader(data.dataset(rows, seed=1), batches, workers=0):
        task.step(raw.to(CPU), done=1, steps=1)
    predict_dataset(task, data, data.rows("val"), batch=4, flip=True)
    save_weights(tmp_path / "last.pt", task.weights())
    Predictor.load(tmp_path / "last.pt")
    assert states() == before


@pytest.mark.parametrize(("name", "term"), [("hgpose", "pull"), ("hgpose-ae", "push")])
def test_weights_of_other_terms_than_the_problems_are_refused(params, name, term):
    weights = dict(params.task(name).weights)
    weights.pop(term) if term in weights else weights.update({term: 1.0})
    terms = build_cpu_task(params, name).problem.terms
    kind = params.task(name).problem
    expected = f"found the keys {', '.join(weights)}, expected {', '.join(terms)} for problem: {kind}"
    with user_error(rf"^tasks\.{name}\.weights: {expected}$"):
        build_cpu_task(with_values(params, {f"tasks.{name}.weights": weights}), name)


def test_precision_is_the_one_named_or_what_the_device_has_instructions_for(params):
    found = [uses_bfloat16(precision, torch.device("meta")) for precision in ("float32", "bfloat16", "auto")]
    assert found == [False, True, False]
    auto = with_values(params, {"train.precision": "auto"})
    assert build_cpu_task(auto, "hgpose").autocast == uses_bfloat16("auto", CPU)


# The step


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(
    ("name", "loss"),
    [("hgpose", "mse"), ("hgpose", "cross_entropy"), ("hgpose-ae", "mse"), ("hgpose-ae", "focal")],
)
def test_every_network_learns_either_problem_by_either_loss(params, batches, name, loss, network):
    kind = params.task(name).problem
    changes: dict[str, object] = {
        f"{kind}.loss": loss,
        f"tasks.{name}.network": NETWORKS[network],
        f"tasks.{name}.optimizer": {"name": "rmsprop", "weight_decay": 0.0},
        "lr": 0.002,
    }
    changes |= {"train.precision": "float32", f"tasks.{name}.lr_scale": 1.0}
    task, batch = build_cpu_task(with_values(params, changes), name), batches[kind]
    rows = [task.step(batch, done=100 + step, steps=1000) for step in range(20)]
    assert rows[0].keys() == {*task.problem.terms, "loss"}
    weighted = sum(task.params.weights[term] * float(rows[0][term]) for term in task.problem.terms)
    assert float(rows[0]["loss"]) == pytest.approx(weighted, rel=1e-5)
    assert np.mean([float(row["loss"]) for row in rows[-3:]]) < 0.98 * float(rows[0]["loss"])


def test_bfloat16_clipping_and_the_schedule_are_switched_by_parameters(params, batches):
    changes = {"train.precision": "bfloat16", "tasks.hgpose.clip": 1e-6, "tasks.hgpose.schedule.warmup": 0.5}
    task = build_cpu_task(with_values(params, changes), "hgpose")
    computed: list[torch.dtype] = []
    task.net.heads[0].register_forward_hook(lambda _, inputs, output: computed.append(output.dtype))
    task.step(batches["single"], done=1, steps=8)
    assert task.optimizer.param_groups[0]["lr"] == pytest.approx(task.lr / 2)
    norms = [parameter.grad.norm() for parameter in task.net.parameters() if parameter.grad is not None]
    assert torch.linalg.vector_norm(torch.stack(norms)) <= 1.01e-6
    output = task(batches["single"].inputs.image_B3HW)
    assert set(computed) == {torch.bfloat16}
    assert output.dtype == task.net(batches["single"].inputs.image_B3HW).dtype == torch.float32


def test_what_is_validated_and_written_is_an_average_of_the_last_steps(params, batches):
    decay = 0.25
    task = build_cpu_task(with_values(params, {"tasks.hgpose.ema": decay}), "hgpose")
    expected: dict[str, Tensor] = {}
    for step in range(4):
        task.step(batches["single"], done=step, steps=4)
        for name, tensor in task.net.state_dict().items():
            if tensor.is_floating_point():
                new = tensor.double()
                expected[name] = decay * expected[name] + (1 - decay) * new if step else new
    current, averaged = task.net.state_dict(), task.averaged().weights().tensors
    whole_numbers = current.keys() - expected.keys()
    assert whole_numbers
    assert all(torch.equal(averaged[name], current[name]) for name in whole_numbers)
    found = {name: averaged[name] for name in expected}
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6, check_dtype=False)
    assert not torch.equal(found["heads.0.weight"], task.net.state_dict()["heads.0.weight"])
    assert task.averaged().net(batches["single"].inputs.image_B3HW).isfinite().all()
    assert task.net.training
    assert not task.averaged().net.training


def test_a_wrapped_network_is_run_in_place_of_the_network(params, batches):
    task, calls = build_cpu_task(params, "hgpose"), []

    def run(image_B3HW: Tensor) -> Tensor:
        calls.append(image_B3HW.shape)
        return task.net(image_B3HW)

    task.run = run
    task.step(batches["single"], done=0, steps=1)
    assert calls == [(4, 3, 64, 64)]


@pytest.mark.parametrize("last", [True, False])
def test_images_lie_in_memory_as_the_parameters_say(params, batches, last):
    task = build_cpu_task(with_values(params, {"train.channels_last": last}), "hgpose")
    layout = torch.channels_last if last else torch.contiguous_format
    maps = []
    task.net.stem.register_forward_hook(lambda module, inputs, output: maps.append(output))
    task.step(batches["single"], done=0, steps=1)
    assert maps[0].is_contiguous(memory_format=layout)  # one of the two, as it has several channels


# From weights


def test_a_loaded_model_predicts_as_the_task_did_and_takes_off_the_mean(params):
    plain = with_values(params, {"train.precision": "float32"})
    task, image = build_cpu_task(plain, "hgpose"), torch.rand(1, 3, 64, 64)
    mean = (0.5, 0.25, 0.125)
    model = load_model(replace(task.weights(), mean=mean), "last.pt", CPU)
    assert not model.net.training
    with torch.inference_mode():
        task.net.eval()
        # Nearly: kernels of so few channels depend on how the weights lie in memory.
        torch.testing.assert_close(model(image), task(image - torch.tensor(mean)[:, None, None]))


@pytest.mark.parametrize(("name", "skeleton"), [("hgpose", MPII), ("hgpose-ae", COCO)])
def test_a_model_is_loaded_for_inference_or_with_other_parameters_from_elsewhere(params, name, skeleton):
    weights = build_cpu_task(params, name).weights()
    own = {**weights.inference, "input_size": 128}
    bare = load_model(replace(weights, inference=own), "last.pt", CPU).problem
    assert (bare.kind, bare.skeleton) == (params.task(name).problem, skeleton)
    assert not isinstance(bare.params, SingleParams | MultiParams)
    train_params = params.problem(name)
    full = load_model(replace(weights, inference=own), "last.pt", CPU, train_params).problem
    assert full.params == train_params.model_copy(update={"input_size": 128})  # the weights' own stay
    assert full.inference_params() == bare.inference_params() == own


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inference": {"input_size": 64}}, "last.pt: inference: missing key crop"),
        ({"outputs": 15}, "last.pt: found 15 output channels, expected 16"),
        ({"problem": "multi"}, "last.pt: inference: unknown key crop"),
        ({"skeleton": COCO}, "last.pt: found 16 output channels, expected 17"),
    ],
)
def test_weights_whose_parameters_cannot_be_used_are_one_line(params, changes, message):
    weights = replace(build_cpu_task(params, "hgpose").weights(), **changes)
    with user_error(f"^{message}"):
        load_model(weights, "last.pt", CPU)


# The published sizes


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "count", "batch", "size"), [("hgpose", 25_434_112, 2, 256), ("hgpose-ae", 138_893_840, 1, 512)]
)
def test_the_papers_preset_builds_the_published_network_and_takes_two_steps(
    name, count, batch, size, prepared, prepared_coco
):
    params = params_with("paper", ROOT / "params.yaml", ROOT / "presets")
    problem = params.problem(name)
    data = open_data(problem, {"hgpose": prepared, "hgpose-ae": prepared_coco}[name])
    task: Task = build_task(params, name, skeleton=data.skeleton, device=CPU)
    assert sum(parameter.numel() for parameter in task.net.parameters()) == count
    rows = np.union1d(data.rows("train"), data.rows("val"))
    [raw] = Loader(data.dataset(rows, seed=1), [[(0, position) for position in range(batch)]], workers=0)
    ready = raw.to(CPU)
    assert ready.inputs.image_B3HW.shape == (batch, 3, size, size)
    before = [parameter.detach().clone() for parameter in task.net.parameters()]
    losses = [float(task.step(ready, done=step, steps=1000)["loss"]) for step in range(2)]
    assert all(np.isfinite(losses))
    assert all(not torch.equal(old, new) for old, new in zip(before, task.net.parameters(), strict=True))
