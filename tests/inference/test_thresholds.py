"""Choosing the numbers by which joints become people, on maps of which it is known what is best."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import perfect_output

from pose.data.multi_samples import image_sample
from pose.inference.thresholds import DETECTION, REACH, TAG, with_best_thresholds
from pose.params import Params
from pose.tasks.base import TTAOutput
from pose.tasks.multi import MultiData, MultiPerson
from pose.tasks.task import Model

SIZE = 192
FALSE = 0.22  # height of the peaks where there is no joint
FAINT = 0.27  # highest of those where there is one
APART = 0.7  # of two people's tags
NOISE = 0.1  # of the tags within a person


class Told(torch.nn.Module):
    """Answers from what it was given, picture by picture in their order, whatever it is shown."""

    def __init__(self, output_NSChw: torch.Tensor):
        super().__init__()
        self.output_NSChw, self.next = output_NSChw, 0

    def forward(self, image_B3HW: torch.Tensor) -> torch.Tensor:
        first, self.next = self.next, (self.next + len(image_B3HW)) % len(self.output_NSChw)
        return self.output_NSChw[first : first + len(image_B3HW)]


@pytest.fixture(scope="module")
def problem(params: Params) -> MultiPerson:
    return MultiPerson(params.multi.model_copy(update={"input": SIZE, "loss": "mse", "tag_gain": 1.0}))


@pytest.fixture(scope="module")
def data(problem: MultiPerson, prepared_coco: Path) -> MultiData:
    return problem.data(prepared_coco, watched=0)


def told(problem: MultiPerson, data: MultiData, *, clear: bool = False) -> Model:
    """A network that answers to the test pictures without fault if `clear`, else with faint joints, false peaks and noisy tags."""
    rng, outputs = np.random.default_rng(0), []
    for row in data.rows("test").tolist():
        sample = image_sample(data.images, row, problem.params)
        output_Chw = perfect_output(sample.heatmap_Khw, sample.cell_PK, gap=10.0 if clear else APART)
        if not clear:
            output_Chw[:17] = np.maximum(
                FAINT * output_Chw[:17], np.where(rng.random(output_Chw[:17].shape) < 0.01, FALSE, 0)
            )
            output_Chw[17:] += NOISE * rng.standard_normal(output_Chw[17:].shape).astype(np.float32)
        outputs.append(torch.from_numpy(output_Chw)[None])
    net = Told(torch.stack(outputs).float())
    return Model(name="told", problem=problem, spec=None, net=net, device=torch.device("cpu"))  # type: ignore[arg-type]


def average_precision(model: Model, problem: MultiPerson, data: MultiData, **thresholds: float) -> float:
    """AP on the test pictures with other thresholds."""
    chosen = problem.params.thresholds.model_copy(update=thresholds)
    problem = replace(problem, params=problem.params.model_copy(update={"thresholds": chosen}))
    rows = data.rows("test")
    found = []
    for row, output_SChw in zip(rows.tolist(), model.net.output_NSChw, strict=True):
        affine_B23 = torch.from_numpy(image_sample(data.images, row, problem.params).affine_23)[None]
        found += problem.decode([TTAOutput(output_SChw[None])], affine_B23)
    return data.evaluate(found, rows).figures()["AP"]


def test_the_chosen_thresholds_have_the_highest_ap_of_all_that_were_tried(
    problem: MultiPerson, data: MultiData
):
    model = told(problem, data)
    chosen = with_best_thresholds(
        model, problem, data, data.rows("test"), batch=3, flip=False
    ).params.thresholds
    best = average_precision(model, problem, data, detection=chosen.detection, tag=chosen.tag)
    assert best == max(
        average_precision(model, problem, data, detection=value, tag=chosen.tag) for value in DETECTION
    )
    assert best == max(
        average_precision(model, problem, data, detection=chosen.detection, tag=value) for value in TAG
    )
    assert FALSE < chosen.detection < FAINT
    assert 2 * NOISE < chosen.tag < APART
    assert best > average_precision(model, problem, data) + 0.1  # than with those of params.yaml


def test_without_tags_the_reach_is_chosen_and_the_tag_threshold_is_left(
    problem: MultiPerson, data: MultiData
):
    model, by_distance = told(problem, data), replace(problem, by_tags=False)
    chosen = with_best_thresholds(model, by_distance, data, data.rows("test"), batch=8, flip=False)
    assert not chosen.by_tags
    thresholds = chosen.params.thresholds
    assert thresholds.tag == problem.params.thresholds.tag
    by_reach = [
        average_precision(model, by_distance, data, detection=thresholds.detection, reach=value)
        for value in REACH
    ]
    assert by_reach[REACH.index(thresholds.reach)] == max(by_reach)
    by_detection = [
        average_precision(model, by_distance, data, detection=value, reach=thresholds.reach)
        for value in DETECTION
    ]
    assert by_detection[DETECTION.index(thresholds.detection)] == max(by_detection)


def test_of_thresholds_that_score_the_same_the_first_is_taken_and_nothing_else_is_changed(
    problem: MultiPerson, data: MultiData
):
    model = told(problem, data, clear=True)
    chosen = with_best_thresholds(model, problem, data, data.rows("test"), batch=8, flip=False)
    scores = [
        average_precision(model, problem, data, detection=value, tag=chosen.params.thresholds.tag)
        for value in DETECTION
    ]
    assert chosen.params.thresholds.detection == DETECTION[scores.index(max(scores))]
    assert max(scores) > 0.95
    rest = {"thresholds": problem.params.thresholds}
    assert chosen.params.model_copy(update=rest) == problem.params


def test_a_network_that_finds_nobody_still_gets_thresholds(problem: MultiPerson, data: MultiData):
    model = told(problem, data)
    model.net.output_NSChw.zero_()
    chosen = with_best_thresholds(
        model, problem, data, data.rows("test"), batch=8, flip=False
    ).params.thresholds
    assert (chosen.detection, chosen.tag) == (DETECTION[0], TAG[0])
