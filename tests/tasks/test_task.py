"""Networks, losses, schedules, the step."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import ROOT

from pose.data.loader import Loader, ResumableBatchSampler
from pose.data.person_set import PersonSet
from pose.data.single_samples import Batch
from pose.experiments.presets import apply_preset
from pose.inference.predictor import Predictor, predict_dataset
from pose.io.errors import UserError
from pose.keypoints.heatmap import encode
from pose.models.hourglass import StackedHourglass
from pose.models.weights import save_weights, weights_of
from pose.params import Params, ScheduleParams, load_params, parse_params
from pose.tasks.multi import MultiData, MultiPerson
from pose.tasks.single import SinglePerson
from pose.tasks.task import Task, build_task, schedule_factor, uses_bfloat16


def count(net: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in net.parameters())


def test_the_papers_network_has_25_million_weights():
    net = StackedHourglass(joints=16, stacks=8, modules=1, features=256, stem=[64, 128, 128])
    assert count(net) == 25_434_112


def test_every_stack_answers_at_a_quarter_of_the_input():
    net = StackedHourglass(joints=5, stacks=3, modules=2, features=8, stem=[4, 8, 8])
    assert net(torch.rand(2, 3, 64, 128)).shape == (2, 3, 5, 16, 32)


def test_two_builds_from_a_seed_are_equal_and_leave_the_global_generator_alone(params: Params):
    before = torch.get_rng_state()
    a, b = (build_task(params, "hgpose", device=torch.device("cpu")) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    assert all(
        torch.equal(x, y)
        for x, y in zip(a.net.state_dict().values(), b.net.state_dict().values(), strict=True)
    )


def test_weights_are_those_of_the_global_generator_but_drawn_from_one_of_their_own(params: Params):
    def built(seed: int) -> dict[str, torch.Tensor]:
        return build_task(
            params.model_copy(update={"seed": seed}), "hgpose-ae", device=torch.device("cpu")
        ).net.state_dict()

    def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
        return all(torch.equal(x, y) for x, y in zip(one.values(), other.values(), strict=True))

    problem, spec = MultiPerson(params.multi), params.task("hgpose-ae").network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        assert same(built(3), problem.network(spec).state_dict())
    seeds = list(range(8))
    with ThreadPoolExecutor(4) as pool:  # at once, which a seeded global generator would not stand
        together = list(pool.map(built, seeds))
    assert all(same(one, built(seed)) for one, seed in zip(together, seeds, strict=True))
    assert not same(together[0], together[1])


def test_training_touches_no_global_generator(params: Params, prepared: Path, tmp_path: Path):
    data = SinglePerson(params.single).data(prepared, watched=4)
    before = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    task = build_task(params, "advpose", device=torch.device("cpu"))
    rows = data.rows("train")
    for raw in Loader(
        data.dataset(rows, seed=1, augment=True),
        ResumableBatchSampler(len(rows), 4, seed=1, start=0, stop=3),
        workers=0,
    ):
        task.step(raw.to(task.device), done=1, steps=1)
    predict_dataset(task, data, data.rows("watched"), batch=4, flip=True)
    save_weights(tmp_path / "last.pt", weights_of(task))
    Predictor.load(tmp_path / "last.pt")
    after = random.getstate(), np.random.get_state()[1], torch.get_rng_state()
    assert before[0] == after[0]
    assert (before[1] == after[1]).all()
    assert torch.equal(before[2], after[2])


def batch_of(mask: list[float]) -> Batch:
    rng = torch.Generator().manual_seed(0)
    return Batch(
        image_B3HW=torch.rand(1, 3, 8, 8, generator=rng),
        heatmap_BKhw=torch.rand(1, 2, 2, 2, generator=rng),
        mask_BK=torch.tensor([mask]),
        affine_B23=torch.eye(3, dtype=torch.float64)[None, :2],
        row_B=torch.zeros(1, dtype=torch.int64),
    )


def test_the_heatmap_loss_is_the_weighted_squared_error_summed_over_stacks(params: Params):
    batch, output = batch_of([1.0, 1.0]), torch.rand(1, 3, 2, 2, 2)
    target = batch.heatmap_BKhw[:, None]
    by_hand = sum(
        (((1 + 20 * target) * (output[:, [s]] - target) ** 2).mean() for s in range(3)), torch.zeros(())
    )
    problem = SinglePerson(params.single.model_copy(update={"foreground": 20.0, "loss": "mse"}))
    assert torch.allclose(problem.losses(output, batch)["heatmap"], by_hand)


def test_a_joint_without_annotation_has_no_gradient(params: Params):
    output = torch.rand(1, 1, 2, 2, 2, requires_grad=True)
    SinglePerson(params.single).losses(output, batch_of([1.0, 0.0]))["heatmap"].backward()
    assert output.grad is not None
    assert output.grad[0, 0, 0].abs().min() > 0
    assert output.grad[0, 0, 1].abs().max() == 0


def test_training_on_one_batch_lowers_its_loss(params: Params, people: PersonSet):
    task = build_task(params, "hgpose", device=torch.device("cpu"))
    data = task.problem.data(people.path, watched=0)
    dataset = data.dataset(data.rows("train"), seed=1, augment=False)
    [raw] = Loader(dataset, [[(0, 0), (0, 1), (0, 2), (0, 3)]], workers=0)
    losses = [float(task.step(raw.to(task.device), done=step, steps=1000)["loss"]) for step in range(30)]
    assert np.mean(losses[-3:]) < 0.95 * losses[0]


def test_a_term_without_a_weight_is_an_error(params: Params, people: PersonSet):
    task = build_task(params, "hgpose", device=torch.device("cpu"))
    task.weights = {}
    data = task.problem.data(people.path, watched=0)
    dataset = data.dataset(data.rows("train"), seed=1, augment=False)
    [raw] = Loader(dataset, ResumableBatchSampler(4, 4, seed=0, start=0, stop=1), workers=0)
    with pytest.raises(KeyError, match="heatmap"):
        task.step(raw.to(task.device), done=0, steps=1)


def test_bfloat16_and_clipping_are_switched_by_parameters(params: Params, people: PersonSet):
    train = params.train.model_copy(update={"precision": "bfloat16"})
    clipped = params.tasks["hgpose"].model_copy(update={"clip": 1e-6})
    task: Task = build_task(
        params.model_copy(update={"train": train, "tasks": {"hgpose": clipped}}),
        "hgpose",
        device=torch.device("cpu"),
    )
    data = task.problem.data(people.path, watched=0)
    dataset = data.dataset(data.rows("train"), seed=1, augment=False)
    [raw] = Loader(dataset, ResumableBatchSampler(4, 4, seed=0, start=0, stop=1), workers=0)
    task.step(raw.to(task.device), done=0, steps=1)
    norm = torch.linalg.vector_norm(
        torch.stack([p.grad.norm() for p in task.net.parameters() if p.grad is not None])
    )
    assert norm <= 1.01e-6
    assert task.net(raw.to(task.device).image_B3HW).dtype == torch.float32


def test_precision_is_what_is_said_or_what_the_device_has_instructions_for(params: Params):
    cpu, none = torch.device("cpu"), torch.device("meta")
    assert [uses_bfloat16(precision, none) for precision in ("float32", "bfloat16", "auto")] == [
        False,
        True,
        False,
    ]
    auto = params.model_copy(update={"train": params.train.model_copy(update={"precision": "auto"})})
    assert build_task(auto, "hgpose", device=cpu).autocast == uses_bfloat16("auto", cpu)


def schedule(name: str, **values: object) -> ScheduleParams:
    return ScheduleParams.model_validate(
        {"name": name, "warmup": 0.0, "milestones": [], "gamma": 0.1} | values
    )


def test_schedules_have_the_shapes_they_are_named_for():
    steps = schedule("steps", milestones=[0.5, 0.75])
    assert [schedule_factor(steps, done, 100) for done in (0, 49, 50, 75)] == pytest.approx([1, 1, 0.1, 0.01])
    cosine = schedule("cosine", warmup=0.1)
    assert schedule_factor(cosine, 0, 100) == pytest.approx(0.1)
    assert schedule_factor(cosine, 10, 100) == pytest.approx(1)
    assert schedule_factor(cosine, 55, 100) == pytest.approx(0.5)
    assert schedule_factor(cosine, 100, 100) == pytest.approx(0, abs=1e-9)
    assert schedule_factor(schedule("constant"), 99, 100) == 1


def cross_entropy(params: Params) -> SinglePerson:
    return SinglePerson(params.single.model_copy(update={"loss": "cross_entropy"}))


def test_cross_entropy_is_least_where_the_softmax_is_the_target(params: Params):
    batch = batch_of([1.0, 1.0])
    ideal = batch.heatmap_BKhw.log()[:, None]
    target = batch.heatmap_BKhw.flatten(2)
    share = target / target.sum(dim=2, keepdim=True)
    entropy = -(share * share.log()).sum(dim=2).mean()
    best = cross_entropy(params).losses(ideal, batch)["heatmap"]
    assert torch.allclose(best, entropy)
    assert cross_entropy(params).losses(ideal + torch.randn_like(ideal), batch)["heatmap"] > best


def test_cross_entropy_leaves_joints_outside_the_crop_alone(params: Params):
    batch = batch_of([1.0, 1.0])
    batch.heatmap_BKhw[0, 1] = 0
    output = torch.rand(1, 1, 2, 2, 2, requires_grad=True)
    cross_entropy(params).losses(output, batch)["heatmap"].backward()
    assert output.grad is not None
    assert output.grad[0, 0, 0].abs().max() > 0
    assert output.grad[0, 0, 1].abs().max() == 0


def test_a_sure_network_answers_with_the_targets_own_scale(params: Params):
    xy = np.full((16, 2), 7.0)
    target, _ = encode(xy, np.ones(16, dtype=bool), size=16, sigma=params.single.sigma)
    logits = torch.from_numpy(target).double().clamp(min=1e-300).log()[None, None]
    assert torch.allclose(
        cross_entropy(params).heatmaps(logits)[0], torch.from_numpy(target).double(), atol=2e-3
    )


def test_cross_entropy_with_empty_maps_is_refused(params: Params):
    values = params.model_dump()
    values["single"] |= {"loss": "cross_entropy", "unlabelled": "zero"}
    with pytest.raises(UserError, match=r"single: .*unlabelled: zero goes with loss: mse only"):
        parse_params(values)


def paper(folder: Path) -> Params:
    """The parameters that `pose preset paper` gives."""
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    apply_preset("paper", folder / "params.yaml", ROOT / "presets")
    return load_params(folder / "params.yaml")


def takes_two_steps(task: Task, prepared: Path, *, batch: int, shape: tuple[int, ...]) -> None:
    data = task.problem.data(prepared, watched=0)
    dataset = data.dataset(
        data.images.rows("train") if isinstance(data, MultiData) else data.rows("train"), seed=1, augment=True
    )
    [raw] = Loader(dataset, [[(0, position) for position in range(batch)]], workers=0)
    ready = raw.to(task.device)
    assert ready.image_B3HW.shape == shape
    before = [parameter.detach().clone() for parameter in task.net.parameters()]
    losses = [float(task.step(ready, done=step, steps=1000)["loss"]) for step in range(2)]
    assert all(np.isfinite(losses))
    assert all(not torch.equal(old, new) for old, new in zip(before, task.net.parameters(), strict=True))


@pytest.mark.slow
def test_the_papers_preset_builds_the_eight_stacks_and_takes_two_steps_at_256_px(
    people: PersonSet, tmp_path: Path
):
    task = build_task(paper(tmp_path), "hgpose", device=torch.device("cpu"))
    assert count(task.net) == 25_434_112
    takes_two_steps(task, people.path, batch=2, shape=(2, 3, 256, 256))


@pytest.mark.slow
def test_the_papers_preset_builds_the_four_stacks_of_hgpose_ae_and_takes_two_steps_at_512_px(
    prepared_coco: Path, tmp_path: Path
):
    task = build_task(paper(tmp_path), "hgpose-ae", device=torch.device("cpu"))
    assert count(task.net) == 138_893_840
    assert task.weights == {"heatmap": 1.0, "pull": 0.001, "push": 0.001}
    assert task.lr == pytest.approx(2e-4)
    takes_two_steps(task, prepared_coco, batch=1, shape=(1, 3, 512, 512))
