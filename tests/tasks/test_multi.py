"""The multi-person problem.

Its losses by hand, its networks, who trains and who is watched, and that it learns what it is shown.
"""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import annotation_file_content, image_entry, person_entry, prepare_images, write_annotations
from torch import Tensor

from pose.data.image_set import ImageSet
from pose.data.loader import Loader, ResumableBatchSampler
from pose.data.multi_samples import MultiTargets
from pose.data.prepare.coco import prepare_coco
from pose.data.synthetic.sets import synthesize_coco
from pose.inference.predictor import predict_dataset
from pose.keypoints.people import People
from pose.ops.tag_loss import tag_loss
from pose.params import AEHourglassParams, HourglassParams, Params, parse_params
from pose.tasks.base import TTAOutput
from pose.tasks.multi import MultiData, MultiPerson
from pose.tasks.task import Task, build_task

CPU = torch.device("cpu")
JOINTS = 17
HOURGLASS = HourglassParams(kind="hourglass", stacks=2, modules=1, features=8, stem=[4, 8, 8])
AE = AEHourglassParams(kind="ae", stacks=2, features=8, increase=4, outputs=68, stem=[4, 8, 8])
NETWORKS = pytest.mark.parametrize("network", [HOURGLASS, AE], ids=["hourglass", "ae"])
LOSSES = pytest.mark.parametrize("loss", ["mse", "focal"])


def problem(params: Params, **changes: Any) -> MultiPerson:
    return MultiPerson(params.multi.model_copy(update=changes))


def batch_of(images: int = 2, people: int = 3, side: int = 4) -> MultiTargets:
    """Random targets, of which the first image's crowd covers a quarter, and people of whom one in five joints is absent."""
    rng = torch.Generator().manual_seed(0)
    cell_BPK = torch.randint(side * side, (images, people, JOINTS), generator=rng)
    cell_BPK[torch.rand(cell_BPK.shape, generator=rng) < 0.2] = -1
    mask_Bhw = torch.ones(images, side, side)
    mask_Bhw[0, : side // 2, : side // 2] = 0
    return MultiTargets(
        image_B3HW=torch.rand(images, 3, 4 * side, 4 * side, generator=rng),
        heatmap_BKhw=torch.rand(images, JOINTS, side, side, generator=rng),
        mask_Bhw=mask_Bhw,
        cell_BPK=cell_BPK,
        affine_B23=torch.eye(3, dtype=torch.float64)[None, :2].repeat(images, 1, 1),
        row_B=torch.arange(images),
    )


def answer_to(batch: MultiTargets, *, stacks: int = 2, channels: int = 68) -> Tensor:
    images, _, h, w = batch.heatmap_BKhw.shape
    return torch.randn(
        images, stacks, channels, h, w, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()


# ---- losses ----


def squared(target: float, value: float) -> float:
    return (target - value) ** 2


def focused(focus: float) -> Any:
    """Equation 6 of arXiv 2006.04388, of a logit."""

    def loss(y: float, logit: float) -> float:
        sigma = 1 / (1 + math.exp(-logit))
        return -(abs(y - sigma) ** focus) * ((1 - y) * math.log(1 - sigma) + y * math.log(sigma))

    return loss


@pytest.mark.parametrize("foreground", [0.0, 20.0])
@pytest.mark.parametrize(
    "loss", ["mse", 0.0, 1.0, 2.0], ids=lambda loss: f"focal, focus {loss}" if loss != "mse" else loss
)
def test_the_heatmap_loss_is_what_its_formula_gives_cell_by_cell(
    params: Params, loss: str | float, foreground: float
):
    batch, cell_loss = batch_of(), squared if loss == "mse" else focused(float(loss))
    output = answer_to(batch)
    total = 0.0
    for b, stack, joint, y, x in np.ndindex(2, 2, JOINTS, 4, 4):
        target = float(batch.heatmap_BKhw[b, joint, y, x])
        weight = float(batch.mask_Bhw[b, y, x]) * (1 + foreground * target)
        total += weight * cell_loss(target, float(output[b, stack, joint, y, x].detach()))
    maps = (
        2 * 2 * JOINTS
    )  # the mean is over images, stacks and joints; of squared errors over the cells of a map too
    chosen = {"loss": "mse"} if loss == "mse" else {"loss": "focal", "focal_gamma": loss}
    found = problem(params, foreground=foreground, **chosen).losses(output, batch)["heatmap"]
    assert found.item() == pytest.approx(total / (maps * 16 if loss == "mse" else maps), rel=1e-5)


def test_the_heatmap_loss_is_least_where_the_answer_is_the_target(params: Params):
    batch = batch_of()
    for loss, ideal_BKhw in (("mse", batch.heatmap_BKhw), ("focal", batch.heatmap_BKhw.logit())):
        ideal = torch.cat([ideal_BKhw, torch.zeros_like(ideal_BKhw)], dim=1)[:, None]
        losses = problem(params, loss=loss, focus=1.0).losses
        assert float(losses(ideal, batch)["heatmap"]) == pytest.approx(0, abs=1e-5)
        assert float(losses(ideal + 0.3, batch)["heatmap"]) > 1e-3


@LOSSES
def test_only_joints_and_their_tags_are_taught_and_no_heatmap_within_a_crowd(params: Params, loss: str):
    batch = batch_of()
    output = answer_to(batch)
    sum(problem(params, loss=loss).losses(output, batch).values(), torch.zeros(())).backward()
    assert output.grad is not None
    seen_BShw = output.grad[:, :, :JOINTS].abs().amin(dim=2) > 0
    assert torch.equal(seen_BShw, (batch.mask_Bhw > 0)[:, None].expand_as(seen_BShw))
    assert output.grad[:, :, :JOINTS].abs().amax(dim=2)[~seen_BShw].max() == 0
    assert output.grad[:, :, JOINTS : 2 * JOINTS].abs().amax() > 0
    assert output.grad[:, :, 2 * JOINTS :].abs().amax() == 0


@pytest.mark.parametrize("gain", [1.0, 4.0])
def test_pull_and_push_are_those_of_every_stacks_own_tags_averaged(params: Params, gain: float):
    batch = batch_of()
    output = answer_to(batch, stacks=3)
    found = problem(params, tag_gain=gain).losses(output, batch)
    each = [tag_loss(gain * output[:, stack, JOINTS : 2 * JOINTS], batch.cell_BPK) for stack in range(3)]
    pull_SB, push_SB = (torch.stack(one) for one in zip(*each, strict=True))
    torch.testing.assert_close(found["pull"], pull_SB.mean())
    torch.testing.assert_close(found["push"], push_SB.mean())
    assert push_SB.std() > 0


def test_tags_far_apart_between_people_and_equal_within_cost_nothing(params: Params):
    batch = batch_of()
    batch.cell_BPK[:] = torch.arange(3)[:, None]  # person p has all joints in cell p
    output = answer_to(batch).detach()
    output[:, :, JOINTS : 2 * JOINTS] = 100 * torch.arange(16.0).view(4, 4)
    found = problem(params).losses(output, batch)
    assert float(found["pull"]) == pytest.approx(0, abs=1e-9)
    assert float(found["push"]) == pytest.approx(0, abs=1e-9)
    output[:, :, JOINTS : 2 * JOINTS] = 1.0
    assert float(problem(params).losses(output, batch)["push"]) == pytest.approx(0.5)  # all alike


def test_a_batch_of_nobody_teaches_empty_maps_and_no_tags(params: Params):
    batch = batch_of()
    batch.cell_BPK[:], batch.heatmap_BKhw[:] = -1, 0
    output = answer_to(batch)
    found = problem(params).losses(output, batch)
    assert found["pull"].item() == found["push"].item() == 0
    sum(found.values(), torch.zeros(())).backward()
    assert output.grad is not None
    assert output.grad.isfinite().all()


# ---- networks, and what is read of their answers ----


@NETWORKS
@LOSSES
def test_a_network_answers_with_heatmaps_and_tags_and_begins_with_empty_pictures(
    params: Params, network: Any, loss: str
):
    multi = problem(params, loss=loss)
    torch.manual_seed(0)
    net = multi.network(network).eval()
    output = net(torch.rand(1, 3, 64, 128))
    assert output.shape == (1, 2, 68 if network is AE else 34, 16, 32)
    assert multi.heatmaps(output).shape == (1, JOINTS, 16, 32)
    if loss == "focal":
        assert float(multi.heatmaps(output).mean()) < 0.1  # half of it without the bias
        assert abs(float(output[:, :, JOINTS:].mean())) < 1  # the tags do not begin there


def test_of_68_channels_34_are_read(params: Params):
    batch = batch_of(images=1)
    multi, output = problem(params), answer_to(batch, channels=68)
    other = torch.cat([output[:, :, :34], torch.randn_like(output[:, :, 34:])], dim=2)
    assert all(
        torch.equal(a, b)
        for a, b in zip(
            multi.losses(output, batch).values(), multi.losses(other, batch).values(), strict=True
        )
    )
    [one], [two] = (multi.maps([TTAOutput(values.detach())], batch.affine_B23) for values in (output, other))
    assert np.array_equal(one.heatmap_Khw, two.heatmap_Khw)
    assert np.array_equal(one.tag_KhwT, two.tag_KhwT)


def test_maps_are_the_last_stacks_the_tags_times_their_gain(params: Params):
    batch = batch_of(images=1)
    output = answer_to(batch).detach()
    for loss, expected in (("mse", output[0, -1, :JOINTS]), ("focal", output[0, -1, :JOINTS].sigmoid())):
        [maps] = problem(params, loss=loss, tag_gain=4.0).maps([TTAOutput(output)], batch.affine_B23)
        np.testing.assert_array_equal(maps.heatmap_Khw, expected)
        np.testing.assert_array_equal(maps.tag_KhwT[..., 0], 4 * output[0, -1, JOINTS : 2 * JOINTS])


def task_of(params: Params, **changes: Any) -> Task:
    spec = params.task("hgpose-ae").model_copy(update=changes)
    return build_task(
        params.model_copy(update={"tasks": {"hgpose-ae": spec}, "lr": 0.002}), "hgpose-ae", device=CPU
    )


@NETWORKS
@LOSSES
def test_training_on_one_batch_lowers_every_backbones_loss(
    params: Params, prepared_coco: Path, network: Any, loss: str
):
    chosen = params.model_copy(update={"multi": params.multi.model_copy(update={"loss": loss})})
    task = task_of(chosen, network=network, lr_scale=1.0)
    data = task.problem.data(prepared_coco, watched=0)
    [raw] = Loader(
        data.dataset(data.rows("train"), seed=1, augment=False), [[(0, 0), (0, 1), (0, 2), (0, 3)]], workers=0
    )
    batch = raw.to(CPU)
    found = [task.step(batch, done=100 + step, steps=1000) for step in range(30)]
    assert {"heatmap", "pull", "push", "loss"} == found[0].keys()
    assert np.mean([float(terms["loss"]) for terms in found[-3:]]) < 0.9 * float(found[0]["loss"])


# ---- the data ----


@pytest.fixture(scope="module")
def data(params: Params, prepared_coco: Path) -> MultiData:
    return MultiPerson(params.multi).data(prepared_coco, watched=0)


def ids(data: MultiData, part: Any) -> set[int]:
    return set(data.images.id_I[data.rows(part)].tolist())


def test_nobody_is_trained_on_watched_or_tested_on_at_once(data: MultiData):
    train, watched, test = (ids(data, part) for part in ("train", "watched", "test"))
    assert len(watched) == data.params.held_out
    assert train | watched == set(data.images.id_I[data.images.rows("train")].tolist())
    assert test == set(data.images.id_I[data.images.rows("validation")].tolist())
    assert not train & watched
    assert not (train | watched) & test


def test_where_nothing_is_held_out_the_training_images_are_watched(data: MultiData):
    whole = replace(data, params=data.params.model_copy(update={"held_out": 0}))
    assert ids(whole, "train") == ids(whole, "watched") == ids(data, "train") | ids(data, "watched")


def test_no_more_images_are_watched_than_asked_for_and_none_of_them_trained_on(data: MultiData):
    few = replace(data, watched=2)
    assert len(ids(few, "watched")) == 2
    assert ids(few, "watched") < ids(data, "watched")
    assert ids(few, "train") == ids(data, "train")


def test_a_sample_of_a_part_is_of_that_part_and_no_larger_than_it(data: MultiData):
    assert set(data.sample_of("train", 3)) < set(data.rows("train"))
    assert data.sample_of("train", 10_000).tolist() == data.rows("train").tolist()
    assert [len(data.sample_of("test", most)) for most in (0, 3)] == [0, 3]


def raw_set(root: Path, numbers: range | list[int], params: Params) -> MultiData:
    write_annotations(
        root,
        "train2017",
        annotation_file_content([image_entry(n) for n in numbers], [person_entry(n, n) for n in numbers]),
    )
    write_annotations(
        root, "val2017", annotation_file_content([image_entry(1000)], [person_entry(1000, 1000)])
    )
    return MultiData(prepare_images(root)[0], params.multi.model_copy(update={"held_out": 4}), watched=0)


def test_whether_an_image_is_held_out_does_not_hang_on_those_that_are_not(params: Params, tmp_path: Path):
    whole = raw_set(tmp_path / "whole", range(1, 21), params)
    held_out = ids(whole, "watched")
    assert held_out != {1, 2, 3, 4}  # but drawn by lot
    fewer = sorted(ids(whole, "train"))[::3] + sorted(held_out)
    assert ids(raw_set(tmp_path / "fewer", fewer, params), "watched") == held_out
    one_less = sorted(ids(whole, "train") | held_out - {min(held_out)})
    assert held_out - {min(held_out)} < ids(raw_set(tmp_path / "one less", one_less, params), "watched")


def perfect(images: ImageSet, row: int) -> People:
    """Everyone in a picture, where they are annotated."""
    joint_PK2, labelled_PK = images.joints(row)
    return People(joint_PK2, labelled_PK.astype(float), np.ones(len(joint_PK2)))


@pytest.mark.parametrize("part", ["train", "watched", "test"])
def test_people_at_their_annotated_places_score_one_in_every_part(data: MultiData, part: Any):
    rows = data.rows(part)
    scores = data.score([perfect(data.images, row) for row in rows.tolist()], rows)
    assert (
        scores["COCO"]["AP"] > 0.95
    )  # unlabelled joints of ours lie in the middle, and annotated ones may be all at one place
    people = sum(len(data.images.joints(row)[0]) for row in rows.tolist())
    assert scores["images"] == {"all": len(rows), "with people": len(rows), "people": people}
    assert MultiPerson(data.params).headline(scores) == {
        name: scores["COCO"][name] for name in ("AP", "AP50", "AR")
    }


def test_a_curve_over_training_begins_with_zeros_where_nobody_is_found(data: MultiData):
    rows = data.rows("watched")
    nobody = People(np.empty((0, JOINTS, 2)), np.empty((0, JOINTS)), np.empty(0))
    scores = data.score([nobody] * len(rows), rows)
    assert MultiPerson(data.params).headline(scores) == {"AP": 0, "AP50": 0, "AR": 0}


def test_what_is_written_names_cocos_own_images_and_is_read_back_by_its_tools(
    data: MultiData, tmp_path: Path
):
    from pycocotools.coco import COCO as Tools

    rows = data.rows("test")
    data.write(
        tmp_path / "found.json", "hgpose-ae", [perfect(data.images, row) for row in rows.tolist()], rows
    )
    results = json.loads((tmp_path / "found.json").read_text())
    assert {result["image_id"] for result in results} == ids(data, "test")
    loaded = Tools(str(data.images.annotations("validation"))).loadRes(str(tmp_path / "found.json"))
    assert len(loaded.anns) == len(results)


# ---- it learns ----

LARGE = 0.4  # of the picture's longer side: the height of the labelled joints of everyone in it


def memorising(params: Params) -> Params:
    """Numbers by which four pictures are learnt in a quarter of a minute."""
    values = params.model_dump()
    values["multi"] |= {
        "input": 128,
        "sigma": 1.0,
        "target": "subcell",
        "loss": "focal",
        "focal_gamma": 1.0,
        "foreground": 0.0,
    }
    values["multi"] |= {
        "tag_gain": 4.0,
        "held_out": 0,
        "thresholds": {"tune": False, "detection": 0.1, "tag": 1.0, "max_distance": 0.5},
    }
    values["multi"]["augment"] |= {"rotation": 3.0, "scale": 0.025, "shift": 0.01, "flip": 0.5}
    values["multi"]["augment"] |= {"hue": 0.0, "saturation": 0.0, "brightness": 0.0, "contrast": 0.0}
    values["tasks"]["hgpose-ae"] |= {
        "lr_scale": 1.0,
        "network": {"kind": "hourglass", "stacks": 1, "modules": 1, "features": 32, "stem": [8, 16, 32]},
        "weights": {"heatmap": 1.0, "pull": 0.3, "push": 1.2},
        "optimizer": {"name": "rmsprop", "weight_decay": 0.0},
        "schedule": {"name": "cosine", "warmup": 0.05, "milestones": [], "gamma": 0.1},
        "batch": 4,
        "clip": 0.0,
    }
    values["train"] |= {"precision": "float32", "compile": False}
    return parse_params(values | {"lr": 0.0025})


def large_people(images: ImageSet, count: int) -> list[int]:
    """Training pictures of so many people, all of them large and nearly whole."""
    rows = []
    for row in images.rows("train").tolist():
        joint_PK2, labelled_PK = images.joints(row)
        heights = [
            np.ptp(joint_K2[labelled_K, 1])
            for joint_K2, labelled_K in zip(joint_PK2, labelled_PK, strict=True)
        ]
        large = min(heights, default=0) > LARGE * images.image_size_I2[row].max()
        if len(heights) == count and large and labelled_PK.sum(axis=1).min() >= 12:
            rows.append(row)
    return rows


@pytest.mark.slow
def test_a_small_network_learns_four_pictures_by_heart_mirrored_or_not(params: Params, tmp_path: Path):
    # What this proves is the whole way: crops, flips, targets, masks, tags, grouping, refinement, and back to
    # the pictures' pixels.
    chosen = memorising(params)
    synthesize_coco(train=80, validation=4, seed=1, root=tmp_path, workers=1)
    prepare_coco(tmp_path, tmp_path / "prepared", params=params.prepare.coco, seed=1, workers=1)
    task = build_task(chosen, "hgpose-ae", device=CPU)
    data = task.problem.data(tmp_path / "prepared", watched=0)
    assert isinstance(data, MultiData)
    rows = np.sort([*large_people(data.images, 2)[:2], *large_people(data.images, 1)[:2]])
    assert len(rows) == 4
    steps = 250
    task.net.train()
    batches = Loader(
        data.dataset(rows, seed=1, augment=True),
        ResumableBatchSampler(4, 4, seed=1, start=0, stop=steps),
        workers=0,
    )
    for step, raw in enumerate(batches):
        task.step(raw.to(CPU), done=step, steps=steps)
    task.net.eval()
    for flip in (False, True):
        found = predict_dataset(task, data, rows, batch=4, flip=flip)
        assert data.score(found, rows)["COCO"]["AP"] > 0.8, f"flip {flip}"
    best = {
        row: people.joint_PK2[: len(data.images.joints(row)[0])]
        for row, people in zip(rows.tolist(), found, strict=True)
    }
    for row, joint_PK2 in best.items():  # left is left, and a picture's px are px
        true_PK2, _ = data.images.joints(row)
        distance_PP = np.nanmedian(np.linalg.norm(joint_PK2[:, None] - true_PK2[None], axis=-1), axis=-1)
        assert distance_PP.min(axis=0).max() < 0.02 * data.images.image_size_I2[row].max()
