"""COCO's ten numbers from match records: pycocotools' own, for images that count any number of times."""

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import annotation_file_content, crowd_entry, image_entry, person_entry
from helpers import COCO

from pose.data.results import read_results
from pose.keypoints.results import coco_results
from pose.metrics.oks import TEN, CocoTruth
from pose.metrics.scoring.match_records import TenNumbers

SIZE = 640, 480
IMAGES = 25

Entry = dict[str, Any]


def random_people(rng: np.random.Generator) -> tuple[list[Entry], list[Entry]]:
    """People of all sizes, some of whom do not count; and results: near them, twice, elsewhere."""
    people: list[Entry] = []
    results: list[Entry] = []
    for image_id in range(1, IMAGES + 1):
        for _ in range(rng.integers(0, 5)):
            side = rng.choice([20.0, 60.0, 150.0])
            joint_K2 = rng.uniform(0, side, (17, 2)) + rng.uniform(0, 300, 2)
            flag_K = rng.choice([0, 1, 2], 17)
            keypoints = np.column_stack([joint_K2, flag_K]).ravel().tolist()
            person = {"area": 0.6 * side**2, "bbox": [*joint_K2.min(axis=0).tolist(), side, side]}
            person |= {"keypoints": keypoints, "num_keypoints": int((flag_K > 0).sum())}
            people.append(person_entry(len(people) + 1, image_id, **person))
            for _ in range(rng.integers(0, 3)):
                found_K2 = joint_K2 + rng.normal(0, side * rng.choice([0.01, 0.05, 0.2]), (17, 2))
                results.append(result(image_id, found_K2, rng))
        if rng.random() < 0.3:
            people.append(crowd_entry(len(people) + 1, image_id, size=SIZE))
        strangers = rng.choice([0, 2, 25])  # more than count
        results += [result(image_id, rng.uniform(0, 400, (17, 2)), rng) for _ in range(strangers)]
    return people, results


def result(image_id: int, joint_K2: np.ndarray, rng: np.random.Generator) -> Entry:
    keypoints = np.column_stack([joint_K2, rng.random(17)]).ravel().tolist()
    return {"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": rng.random()}


def by_pycocotools(people: list[Entry], results: list[Entry], images: int, folder: Path) -> dict[str, float]:
    """The ten numbers of files that nothing of ours has read."""
    from pycocotools.coco import COCO as Tools
    from pycocotools.cocoeval import COCOeval

    entries = [image_entry(number, size=SIZE) for number in range(1, images + 1)]
    content = annotation_file_content(entries, people)
    (folder / "truth.json").write_text(json.dumps(content))
    (folder / "results.json").write_text(json.dumps(results))
    with contextlib.redirect_stdout(io.StringIO()):
        truth = Tools(str(folder / "truth.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(folder / "results.json")), "keypoints")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(TEN, evaluation.stats.tolist(), strict=True))


def ten_numbers(folder: Path) -> TenNumbers:
    results = read_results(folder / "results.json")
    entries = coco_results(results.images, rounded=False)
    evaluation = CocoTruth(folder / "truth.json", COCO).evaluate_results(entries, range(1, IMAGES + 1))
    return TenNumbers.of(evaluation)


@pytest.mark.parametrize("seed", range(4))
def test_with_every_image_once_they_are_pycocotools_own(seed, tmp_path):
    people, results = random_people(np.random.default_rng(seed))
    for one in results[::3]:
        one["score"] = 0.5
    expected = by_pycocotools(people, results, IMAGES, tmp_path)
    once = np.ones((1, IMAGES), dtype=int)
    assert {
        name: float(value_B[0]) for name, value_B in ten_numbers(tmp_path)(once).items()
    } == pytest.approx(expected, abs=1e-12)
    assert 0.02 < expected["AP"] < 0.9


def test_an_image_that_counts_twice_is_as_if_there_were_two_and_one_that_counts_not_as_if_none(tmp_path):
    rng = np.random.default_rng(9)
    people, results = random_people(rng)
    times_I = rng.multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES))
    by_pycocotools(people, results, IMAGES, tmp_path)
    numbers = {name: float(value[0]) for name, value in ten_numbers(tmp_path)(times_I[None]).items()}
    copies = np.repeat(np.arange(1, IMAGES + 1), times_I).tolist()
    again = [
        [
            one | {"image_id": number}
            for number, old in enumerate(copies, start=1)
            for one in entries
            if one["image_id"] == old
        ]
        for entries in (people, results)
    ]
    copied = [one | {"id": number} for number, one in enumerate(again[0], start=1)]
    assert numbers == pytest.approx(by_pycocotools(copied, again[1], len(copies), tmp_path), abs=1e-12)


def test_where_nobody_can_be_found_there_is_no_number_and_where_nobody_is_found_it_is_0(tmp_path):
    person = person_entry(1, 1, area=2000.0)
    strangers = [result(2, np.zeros((17, 2)), np.random.default_rng(0))]
    by_pycocotools([person], strangers, IMAGES, tmp_path)
    times_BI = np.zeros((2, IMAGES), dtype=int)
    times_BI[0, 0] = times_BI[1, 1] = 3
    numbers = ten_numbers(tmp_path)(times_BI)
    np.testing.assert_array_equal(numbers["AP"], [0, np.nan])
    np.testing.assert_array_equal(numbers["AR M"], [0, np.nan])
    assert np.isnan(numbers["AP L"]).all()
