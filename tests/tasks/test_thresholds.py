"""Tuning thresholds: on known scores, and on maps of which it is known what is best."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from raw_sets import perfect_output
from torch import Tensor

from pose.data.augment import MultiAugment, image_affine
from pose.data.image_set import ImageSet
from pose.data.multi_samples import image_targets
from pose.params import Params
from pose.tasks import multi
from pose.tasks.base import PredictRows, TTAOutput
from pose.tasks.multi import MultiData, MultiPerson
from pose.tasks.thresholds import DETECTION, MAX_DISTANCE, TAG, tune_thresholds

# Known scores


def test_the_two_are_tuned_in_turns_until_neither_changes_and_no_pair_is_scored_twice():
    scored = []

    def score(detection: float, tag: float) -> float:
        scored.append((detection, tag))
        return -100 * (detection - tag / 4) ** 2 - (tag - 1.5) ** 2  # each depends strongly on the other

    assert tune_thresholds(score, 0.25, TAG) == (0.25, 1.0)
    assert len(set(scored)) == len(scored) < len(DETECTION) * len(TAG)


def test_of_equal_scores_the_first_is_taken():
    assert tune_thresholds(lambda *_: 0.0, 1.0, TAG) == (DETECTION[0], TAG[0])
    assert tune_thresholds(lambda *_: 0.0, 1.0, MAX_DISTANCE) == (DETECTION[0], MAX_DISTANCE[0])


# Known maps

SIDE = 192
FALSE = 0.22  # height of peaks where there is no joint
FAINT = 0.27  # highest of those where there is one
APART = 0.7  # difference of two people's tags
NOISE = 0.1  # of the tags within a person


@pytest.fixture(autouse=True)
def as_many_are_held_out_as_the_parameters_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pose.tasks.multi.HELD_OUT_PART", 1)


@pytest.fixture(scope="module")
def data(params: Params, prepared_coco: Path) -> MultiData:
    thresholds = params.multi.thresholds.model_copy(update={"tune": True})
    changes = {"input_size": SIDE, "loss": "mse", "tag_gain": 1.0, "held_out": 8, "thresholds": thresholds}
    return MultiData(ImageSet(prepared_coco), params.multi.model_copy(update=changes), max_val=2)


def predictions(data: MultiData, *, clear: bool, images: int = 8) -> PredictRows:
    """A network's output: without fault if `clear`, else with faint joints, false peaks and noisy tags."""

    def predict(rows: np.ndarray) -> Iterator[tuple[list[TTAOutput], Tensor]]:
        assert len(rows) == images  # by default all held-out images, not max_val
        rng = np.random.default_rng(0)
        for row in rows.tolist():
            affine_123 = image_affine(data.images.image_size_I2[row], SIDE)[None]
            found = image_targets(data.images, np.array([row]), data.params, [MultiAugment()], affine_123)
            gap = 10.0 if clear else APART
            output_Chw = perfect_output(found.heatmap_BKhw[0].numpy(), found.cell_BPK[0].numpy(), gap=gap)
            if not clear:
                false = np.where(rng.random(output_Chw[:17].shape) < 0.01, FALSE, 0)
                output_Chw[:17] = np.maximum(FAINT * output_Chw[:17], false)
                output_Chw[17:] += NOISE * rng.standard_normal(output_Chw[17:].shape).astype(np.float32)
            output_11Chw = torch.from_numpy(output_Chw).float()[None, None]
            yield [TTAOutput(output_11Chw)], torch.from_numpy(affine_123)

    return predict


@pytest.fixture(scope="module")
def problem(data: MultiData) -> MultiPerson:
    return MultiPerson(data.params, data.skeleton)


@pytest.mark.parametrize(
    ("group_by", "other", "values"), [("tags", "tag", TAG), ("distance", "max_distance", MAX_DISTANCE)]
)
def test_tuned_thresholds_have_the_highest_ap_of_their_row_and_column(problem, data, group_by, other, values):
    predict = predictions(data, clear=False)
    rows = replace(data, max_val=0).rows("val")
    maps = [one for outputs, affine_B23 in predict(rows) for one in problem.maps(outputs, affine_B23)]

    def average_precision(**changes: float) -> float:
        changed = tuned.with_thresholds(**changes)
        return data.evaluate([changed.group(one) for one in maps], rows).metrics()["AP"]

    tuned, images = problem.tune(data, predict, [group_by])
    assert images == 8
    best, found = average_precision(), tuned.params.thresholds
    assert best == max(average_precision(detection=value) for value in DETECTION)
    assert best == max(average_precision(**{other: value}) for value in values)
    committed = problem.params.thresholds
    assert found.group_by == group_by
    if group_by == "tags":
        assert FALSE < found.detection < FAINT
        assert 2 * NOISE < found.tag < APART
        assert best > average_precision(detection=committed.detection, tag=committed.tag) + 0.1
    else:
        assert found.tag == committed.tag
    rest = {"thresholds": committed}
    assert tuned.params.model_copy(update=rest) == problem.params  # nothing else is changed


def test_a_clear_network_keeps_the_first_of_equal_thresholds_and_untuned_ones_stay(problem, data):
    tuned = problem.calibrate(data, predictions(data, clear=True)).params.thresholds
    assert tuned.detection == DETECTION[0]
    fixed = problem.with_thresholds(tune=False)
    assert fixed.calibrate(data, predictions(data, clear=False)) is fixed


def test_no_more_images_tune_than_memory_holds_the_maps_of(problem, data, monkeypatch):
    monkeypatch.setattr(multi, "TUNING_IMAGES", 3)
    _, images = problem.tune(data, predictions(data, clear=True, images=3), ["tags"])
    assert images == 3


def test_people_are_told_apart_by_what_does_it_better_on_held_out_images(problem, data):
    clear = predictions(data, clear=True)

    def without_tags(rows: np.ndarray) -> Iterator[tuple[list[TTAOutput], Tensor]]:
        for [output], affine_123 in clear(rows):
            silent_11Chw = output.output_BSChw.clone()
            silent_11Chw[:, :, len(data.skeleton) :] = 0
            yield [TTAOutput(silent_11Chw)], affine_123

    assert problem.calibrate(data, clear).params.thresholds.group_by == "tags"
    assert problem.calibrate(data, without_tags).params.thresholds.group_by == "distance"
