"""COCO's metrics of known people, and its result format."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from coco_files import annotation_file_content, image_entry
from helpers import COCO, user_error

from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, coco_results
from pose.metrics.oks import TEN, CocoEvaluation, CocoTruth

POSE_K2 = np.random.default_rng(0).uniform(0, 1, (17, 2)).round(3)
SIZE = 640, 480
FAR = 10_000.0  # px: a joint that lies so far away has no similarity left
MEDIUM, LARGE = 80.0, 200.0  # px of height, on either side of COCO's 96 x 96


def annotated(
    number: int,
    image_id: int = 1,
    *,
    height: float = LARGE,
    at: tuple[float, float] = (20, 30),
    **changes: Any,
) -> dict[str, Any]:
    """A person as a file has one, all joints labelled, in the pose of everyone here, `height` px high."""
    keypoints_K3 = np.column_stack([POSE_K2 * [height / 2, height] + at, np.full(17, 2)])
    return {
        "id": number,
        "image_id": image_id,
        "category_id": 1,
        "iscrowd": 0,
        "bbox": [*at, height / 2, height],
        "area": height * height / 2,
        "num_keypoints": 17,
        "keypoints": keypoints_K3.ravel().tolist(),
    } | changes


def joints(one: dict[str, Any]) -> np.ndarray:
    return np.reshape(one["keypoints"], (17, 3))[:, :2]


def found(*joint_PK2: np.ndarray, score: float = 0.9) -> People:
    """People with these joints, by falling score."""
    place_PK2 = np.reshape(joint_PK2, (-1, 17, 2))
    score_P = score - 0.01 * np.arange(len(place_PK2))
    return People(place_PK2, np.where(np.isnan(place_PK2[..., 0]), 0, 0.8), score_P)


def written(
    folder: Path, people: list[dict[str, Any]], images: Sequence[int] = (1,), category: int = 1
) -> CocoTruth:
    content = annotation_file_content([image_entry(number, size=SIZE) for number in images], people)
    content["categories"][0]["id"] = category
    (folder / "truth.json").write_text(json.dumps(content))
    return CocoTruth(folder / "truth.json", COCO)


def evaluated(folder: Path, people: list[dict[str, Any]], prediction: People) -> CocoEvaluation:
    return written(folder, people).evaluate([prediction], [1])


# The ten numbers


def test_people_found_where_they_are_score_one_in_all_ten_metrics(tmp_path):
    people = [annotated(1), annotated(2, at=(300, 30)), annotated(3, height=MEDIUM, at=(200, 300))]
    metrics = evaluated(tmp_path, people, found(*map(joints, people))).metrics()
    assert tuple(metrics) == TEN
    assert all(value == pytest.approx(1) for value in metrics.values())
    large = evaluated(tmp_path, people[:2], found(*map(joints, people[:2]))).metrics()
    assert set(TEN) - set(large) == {"AP M", "AR M"}  # without people of a size there is no metric for it
    nobody = evaluated(tmp_path, people, found()).metrics()
    assert (nobody["AP"], nobody["AR"]) == (0, 0)
    other = written(tmp_path, [person | {"category_id": 7} for person in people], category=7)
    assert other.category == 7
    assert other.evaluate([found(*map(joints, people))], [1]).metrics() == metrics


@pytest.mark.parametrize(("wrong", "expected"), [(0, 1.0), (1, 0.9), (5, 0.5), (8, 0.1), (9, 0.0)])
def test_ap_of_a_person_is_the_share_of_thresholds_below_their_similarity(tmp_path, wrong, expected):
    # With joints either right or far away OKS is the share of the right ones: 16/17 is above nine of the
    # thresholds 0.5, 0.55 ... 0.95.
    place_K2 = joints(annotated(1))
    place_K2[:wrong] += FAR
    assert evaluated(tmp_path, [annotated(1)], found(place_K2)).metrics()["AP"] == pytest.approx(expected)


def test_a_person_of_the_wrong_image_gives_nothing(tmp_path):
    people = [annotated(1), annotated(2, image_id=2, at=(400, 250))]
    truth, (first, second) = written(tmp_path, people, images=(1, 2)), map(joints, people)
    assert truth.evaluate([found(first), found(second)], [1, 2]).metrics()["AP"] == pytest.approx(1)
    assert truth.evaluate([found(second), found(first)], [2, 1]).metrics()["AP"] == pytest.approx(1)
    assert truth.evaluate([found(second), found(first)], [1, 2]).metrics()["AP"] == 0


def test_images_without_a_prediction_do_not_count(tmp_path):
    truth = written(tmp_path, [annotated(1), annotated(2, image_id=2)], images=(1, 2))
    assert truth.evaluate([found(joints(annotated(1)))], [1]).metrics()["AP"] == pytest.approx(1)
    both = truth.evaluate([found(joints(annotated(1))), found()], [1, 2]).metrics()
    assert both["AR"] == pytest.approx(0.5)


def test_an_evaluation_on_some_of_its_images_is_that_of_these_images_alone(tmp_path):
    draw, ids = np.random.default_rng(1), [9, 2, 5, 7, 4, 30]
    people = [annotated(n, image_id=ids[n % 5], height=draw.choice([MEDIUM, LARGE])) for n in range(1, 12)]
    truth = written(tmp_path, people, images=ids)
    predictions = [
        found(*(joints(one) + draw.normal(0, 6, (17, 2)) for one in people if one["image_id"] in (image, 9)))
        for image in ids
    ]
    every = truth.evaluate(predictions, ids)
    for some in (ids[:1], ids[1:5], ids[3:], ids):
        chosen = [one for one, image in zip(predictions, ids, strict=True) if image in some]
        part, alone = every.on(some), truth.evaluate(chosen, some)
        assert part.metrics() == alone.metrics()
        assert 0 < part.metrics()["AP"] < 1
        for table in ("precision", "joints"):
            pd.testing.assert_frame_equal(getattr(part, table)(), getattr(alone, table)(), check_exact=True)
        assert part.matched() == alone.matched()


@pytest.mark.parametrize("seed", range(5))
def test_the_ten_numbers_are_those_of_pycocotools(tmp_path, seed):
    draw, ids = np.random.default_rng(seed), [3, 8, 1, 12, 5, 40]
    people = [
        annotated(
            n,
            image_id=int(draw.choice(ids[:-1])),  # the last image shows nobody
            height=float(draw.uniform(20, 300)),
            at=tuple(draw.uniform(0, 300, 2)),
            iscrowd=int(draw.random() < 0.1),
            segmentation={"size": [480, 640], "counts": [1000, 50_000, 480 * 640 - 51_000]},
        )
        for n in range(1, 40)
    ]
    for one in people:
        one["keypoints"][2::3] = draw.choice([0, 1, 2], 17).tolist()
        one["num_keypoints"] = int(np.count_nonzero(one["keypoints"][2::3]))
    truth, predictions = written(tmp_path, people, images=ids), []
    for image in ids[:-1]:
        here = [
            joints(one) + draw.normal(0, draw.uniform(0, 20), (17, 2))
            for one in people
            if one["image_id"] == image
        ]
        # Of some images more than the 20 predictions that count.
        wrong = draw.uniform(0, 400, (draw.integers(0, 30), 17, 2))
        place_PK2 = np.concatenate([np.reshape(here, (-1, 17, 2)), wrong])
        score_P = draw.random(len(place_PK2)).round(1)  # equal ones among them
        predictions.append(People(place_PK2, np.full(place_PK2.shape[:2], 0.5), score_P))
    evaluation = truth.evaluate([*predictions, found()], ids)
    judged = dict(zip(TEN, evaluation.coco_eval.stats, strict=True))
    assert evaluation.metrics() == pytest.approx(judged, abs=1e-8)
    assert 0.02 < judged["AP"] < 0.98


def test_people_without_joints_and_crowds_are_neither_right_nor_wrong(tmp_path):
    nothing = {"num_keypoints": 0, "keypoints": [0] * 51}
    outline = {"size": [SIZE[1], SIZE[0]], "counts": [0, SIZE[0] * SIZE[1]]}
    hidden = annotated(2, at=(300, 30), **nothing)
    crowd = annotated(3, at=(400, 30), **nothing, iscrowd=1, segmentation=outline)
    positions = [joints(annotated(2, at=at)) for at in ((300, 30), (400, 30), (20, 30))]
    result = evaluated(tmp_path, [annotated(1), hidden, crowd], found(*positions))
    assert result.metrics()["AP"] == pytest.approx(1)
    assert result.joints()["people"].tolist() == [1] * 17


def test_where_nobody_is_annotated_there_are_no_metrics_and_no_curves(tmp_path):
    result = evaluated(tmp_path, [], found(joints(annotated(1))))
    assert result.metrics() == {}
    assert result.precision().drop(columns="recall").isna().all(axis=None)
    assert result.joints()["people"].tolist() == [0] * 17
    assert result.joints()[["similarity", "right"]].isna().all(axis=None)


# Tables


def test_precision_falls_to_zero_beyond_the_people_that_were_found(tmp_path):
    people = [annotated(1), annotated(2, at=(300, 30))]
    off_K2 = joints(people[0])
    off_K2[:5] += FAR  # OKS 12/17
    table = evaluated(tmp_path, people, found(off_K2)).precision()
    assert list(table.columns) == ["recall", "OKS 0.5", "OKS 0.75", "mean"]
    np.testing.assert_allclose(table["recall"], np.linspace(0, 1, 101))
    np.testing.assert_allclose(table["OKS 0.5"], table["recall"] <= 0.5)
    np.testing.assert_allclose(table["OKS 0.75"], 0)
    # 0.5, 0.55 ... 0.7 are below 12/17
    np.testing.assert_allclose(table["mean"], 0.5 * (table["recall"] <= 0.5))


def test_similarity_of_a_joint_is_its_part_of_oks_over_those_who_have_it(tmp_path):
    one, other = annotated(1), annotated(2, at=(300, 30))
    other["keypoints"][2::3] = [0, *[2] * 16]  # no nose
    moved_K2 = joints(one)
    # A wrist is off by one standard deviation of its annotators, sqrt(area) * 2 sigma; an eye by two.
    for joint, deviations in (("left_wrist", 1), ("right_eye", 2)):
        sigma = COCO.sigmas[COCO.index(joint)]
        moved_K2[COCO.index(joint), 0] += deviations * np.sqrt(one["area"]) * 2 * sigma
    table = evaluated(tmp_path, [one, other], found(moved_K2, joints(other))).joints().set_index("joint")
    assert list(table.index) == list(COCO.joints)
    assert table.loc["nose", "people"] == 1
    assert table["people"].drop("nose").tolist() == [2] * 16
    # positions are rounded to 0.01 px
    assert table.loc["left_wrist", "similarity"] == pytest.approx((1 + np.exp(-0.5)) / 2, abs=1e-4)
    assert table.loc["left_wrist", "right"] == 100
    assert table.loc["right_eye", "similarity"] == pytest.approx((1 + np.exp(-2)) / 2, abs=1e-3)
    assert table.loc["right_eye", "right"] == 50
    assert table.loc["left_ankle", ["similarity", "right"]].tolist() == pytest.approx([1, 100], abs=1e-3)


def test_wrong_joints_are_of_one_kind_each(tmp_path):
    one, other = annotated(1), annotated(2, at=(300, 30))
    moved_K2 = joints(one)
    knee, ankle = COCO.index("left_knee"), COCO.index("right_ankle")
    right = np.sqrt(one["area"] * np.log(2) * 2) * 2 * COCO.sigmas[knee]  # px, where the similarity is 0.5
    moved_K2[knee, 0] += 1.95 * right
    moved_K2[COCO.index("right_knee"), 1] += 2.05 * right
    moved_K2[COCO.index("left_wrist")] = joints(one)[COCO.index("right_wrist")]
    moved_K2[ankle] = joints(other)[COCO.index("left_ankle")]
    table = evaluated(tmp_path, [one, other], found(moved_K2, joints(other))).joints().set_index("joint")
    kinds = table[["jitter", "inversion", "swap", "miss"]]
    assert kinds.loc["left_knee"].tolist() == [50, 0, 0, 0]  # of two people
    assert kinds.loc["right_knee"].tolist() == [0, 0, 0, 50]
    assert kinds.loc["left_wrist"].tolist() == [0, 50, 0, 0]
    assert kinds.loc["right_ankle"].tolist() == [0, 0, 50, 0]
    assert (table["right"] + kinds.sum(axis=1) == 100).all()


def test_joints_of_people_who_were_not_found_do_not_count(tmp_path):
    one, other = annotated(1), annotated(2, at=(300, 30))
    lost_K2 = joints(other)
    lost_K2[:9] += FAR  # OKS 8/17
    table = evaluated(tmp_path, [one, other], found(joints(one), lost_K2)).joints()
    assert table["people"].tolist() == [1] * 17
    np.testing.assert_allclose(table["similarity"], 1, atol=1e-3)


def test_of_two_predictions_of_one_person_the_one_of_higher_score_counts(tmp_path):
    exact_K2, near_K2 = joints(annotated(1)), joints(annotated(1))
    near_K2[COCO.index("left_wrist")] += FAR
    table = evaluated(tmp_path, [annotated(1)], found(near_K2, exact_K2)).joints().set_index("joint")
    assert table.loc["left_wrist", ["similarity", "people"]].tolist() == pytest.approx([0, 1])


# The result format


def test_results_are_what_cocos_server_takes():
    people = found(*(joints(annotated(number)) for number in (1, 2)))
    images = [ImageResult(people, image_id=139), ImageResult(found(), image_id=140)]
    results = json.loads(json.dumps(coco_results(images)))
    assert [result.keys() for result in results] == [{"image_id", "category_id", "keypoints", "score"}] * 2
    assert [(result["image_id"], result["category_id"]) for result in results] == [(139, 1)] * 2
    np.testing.assert_allclose([result["score"] for result in results], people.score_P)
    keypoint_PK3 = np.reshape([result["keypoints"] for result in results], (2, 17, 3))
    np.testing.assert_allclose(keypoint_PK3[..., :2], people.joint_PK2, atol=0.005)
    np.testing.assert_allclose(keypoint_PK3[..., 2], 0.8)


def test_missing_joints_cost_no_more_than_themselves(tmp_path):
    place_K2 = joints(annotated(1, height=3 * LARGE))
    place_K2[:3] = np.nan
    result = evaluated(tmp_path, [annotated(1, height=3 * LARGE)], found(place_K2))
    assert result.metrics()["AP"] == pytest.approx(0.7)  # 14 of 17 is 0.82, above seven thresholds


def test_a_file_that_holds_no_annotations_is_named(tmp_path):
    (tmp_path / "truth.json").write_text('{"images": [], "annotations": [{"id": 1}], "categories": []}')
    with user_error(r"truth\.json: "):
        CocoTruth(tmp_path / "truth.json", COCO)
