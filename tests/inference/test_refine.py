"""A second look at each person, by a network that sees joints as blobs of three colours."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import CPU, ROOT, user_error, with_values, write_active_weights, write_initial_weights
from torch import Tensor, nn

from pose.experiments.provenance import provenance
from pose.inference.evaluate import evaluate
from pose.inference.predictor import Predictor
from pose.inference.refine import MIN_SCORE, SAME_PLACE, Refiner, person_box
from pose.io.files import file_hash
from pose.keypoints.people import People
from pose.keypoints.skeleton import Skeleton, built_in, same_joints
from pose.models.blocks import PoseNetwork
from pose.params import Params
from pose.tasks.single import SinglePerson
from pose.tasks.task import Model

DOTS = Skeleton(name="dots", joints=("red", "green", "blue"), flips=(), order=())  # what the network knows
FOUND = Skeleton(name="found", joints=("other", "blue", "red", "green"), flips=(), order=())
TRUE_PK2 = np.array([[[50, 50], [70, 85], [30, 20], [75, 30]], [[120, 50], [140, 80], [95, 20], [150, 25]]])
TRUE_PK2 = TRUE_PK2.astype(float)
SIZE, SIDE = 64, 65.0  # of the network's input, and of the first person's box, px
CELL = 1.25 * SIDE / (SIZE / 4)  # px of the image


class Blobs(PoseNetwork):
    """Each joint's heatmap is a colour channel."""

    def forward(self, image_B3HW: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(image_B3HW, 4)[:, None]


def blobs(people_PK2: np.ndarray, peak: float = 1.0) -> np.ndarray:
    """An image of people as `Blobs` sees them."""
    y_H1, x_1W = np.ogrid[:100, :180]
    image_HW3 = np.zeros((100, 180, 3))
    for joint_K2 in people_PK2:
        for channel, (x, y) in enumerate(joint_K2[[FOUND.index(name) for name in DOTS.joints]]):
            blob_HW = np.exp(-((x_1W - x) ** 2 + (y_H1 - y) ** 2) / (2 * (1.5 * CELL) ** 2))
            image_HW3[..., channel] = np.maximum(image_HW3[..., channel], peak * blob_HW)
    return np.rint(255 * image_HW3).astype(np.uint8)


@pytest.fixture(scope="module")
def refiner(params: Params) -> Refiner:
    single = params.single.model_copy(update={"loss": "mse", "input_size": SIZE})
    spec: dict[str, Any] = {"name": "dots", "network_params": params.task("hgpose").network, "device": CPU}
    model = Model(problem=SinglePerson(single, DOTS), net=Blobs(), **spec)
    return Refiner(model, same_joints(FOUND, DOTS), flip=True, batch=3)


def people(joint_PK2: np.ndarray, score: float = 0.5) -> People:
    score_PK = np.where(np.isnan(joint_PK2).any(axis=2), 0, score)
    return People(joint_PK2, score_PK, np.linspace(score, score / 2, len(joint_PK2)))


def moved(joint: str, by: Sequence[float]) -> np.ndarray:
    """The true people, with a joint of the first one elsewhere."""
    joint_PK2 = TRUE_PK2.copy()
    joint_PK2[0, FOUND.index(joint)] += by
    return joint_PK2


def test_a_joint_that_was_off_moves_onto_the_truth_and_one_the_network_does_not_know_stays(refiner):
    off_PK2 = moved("blue", (-7, -6))
    off_PK2[0, FOUND.index("other")] += (9, 9)
    [found] = refiner.refine([blobs(TRUE_PK2)], [people(off_PK2)])
    expected_PK2 = TRUE_PK2.copy()
    expected_PK2[0, FOUND.index("other")] += (9, 9)
    np.testing.assert_allclose(found.joint_PK2, expected_PK2, atol=0.3)
    assert (found.score_PK[:, 0] == 0.5).all()
    assert (found.score_PK[:, 1:] > 0.9).all()


def test_places_that_agree_are_averaged_by_confidence(refiner):
    off = 0.8 * SAME_PLACE * CELL
    [found] = refiner.refine([blobs(TRUE_PK2)], [people(moved("red", (off, 0)), score=0.5)])
    error = found.joint_PK2[0, FOUND.index("red")] - TRUE_PK2[0, FOUND.index("red")]
    confidence = found.score_PK[0, FOUND.index("red")]
    assert 0.8 < confidence <= 1
    assert error[0] == pytest.approx(off * 0.5 / (0.5 + confidence), abs=0.15)
    assert abs(error[1]) < 0.3


def test_a_more_confident_joint_stays_and_a_missing_one_is_filled(refiner):
    red, green = FOUND.index("red"), FOUND.index("green")
    off_PK2 = moved("red", (12, 0))
    off_PK2[1, green] = np.nan
    [found] = refiner.refine([blobs(TRUE_PK2, peak=0.6)], [people(off_PK2, score=0.9)])
    np.testing.assert_allclose(found.joint_PK2[0, red], off_PK2[0, red])
    np.testing.assert_allclose(found.joint_PK2[1, green], TRUE_PK2[1, green], atol=0.5)
    assert found.score_PK[1, green] == pytest.approx(0.6, abs=0.1)


def test_people_stay_in_order_and_their_scores_follow_the_second_look(refiner):
    seen = blobs(TRUE_PK2[1:])  # the first person is none
    before = people(TRUE_PK2)
    [found] = refiner.refine([seen], [before])
    assert found.score_P[0] < before.score_P[0]
    assert found.score_P[1] == pytest.approx(np.sqrt(before.score_P[1]), rel=0.1)
    np.testing.assert_array_equal(before.joint_PK2, TRUE_PK2)  # what was found is not written to
    assert before.score_P.tolist() == [0.5, 0.25]


def test_unlikely_people_and_those_without_extent_stay_as_they_are(refiner):
    point_PK2 = np.full_like(TRUE_PK2[:1], np.nan)
    point_PK2[0, 1] = 50, 50
    nothing_PK2 = np.full_like(point_PK2, np.nan)
    joint_PK2 = np.concatenate([moved("blue", (6, 6)), point_PK2, nothing_PK2])
    score_P = np.array([0.5, 0.9 * MIN_SCORE, 0.4, 0.3])
    before = People(joint_PK2, people(joint_PK2).score_PK, score_P)
    [found] = refiner.refine([blobs(TRUE_PK2)], [before])
    np.testing.assert_array_equal(found.joint_PK2[1:], joint_PK2[1:])
    np.testing.assert_array_equal(found.score_P[1:], score_P[1:])


def test_images_are_refined_together_as_they_are_alone(refiner):
    images = [blobs(TRUE_PK2), blobs(TRUE_PK2[:1]), blobs(TRUE_PK2[1:])]
    found = [people(moved("red", (8, 0))), people(TRUE_PK2[:0]), people(TRUE_PK2[1:] + 1)]
    together = refiner.refine(images, found)
    assert [len(one) for one in together] == [2, 0, 1]
    for image, before, expected in zip(images, found, together, strict=True):
        [alone] = refiner.refine([image], [before])
        for name, values in vars(alone).items():
            np.testing.assert_allclose(values, getattr(expected, name), atol=1e-5)


def test_the_box_is_that_of_the_confident_joints_if_there_are_two():
    score_K = np.array([0.5, 0.5, 0.5, 0.01])
    assert person_box(TRUE_PK2[0], score_K) == pytest.approx((18, 20.5, 65, 65))
    assert person_box(TRUE_PK2[0], np.array([0.5, 0, 0, 0])) == person_box(TRUE_PK2[0], np.ones(4))


# Weights, evaluation, prediction


def test_weights_that_cannot_refine_are_refused(params, tmp_path):
    single = write_initial_weights(params, "hgpose", tmp_path / "single")
    multi = write_active_weights(params, tmp_path / "multi")
    with user_error(r"last\.pt: found weights of problem multi, expected single to refine"):
        Predictor.load(multi, "cpu", refine=multi)
    with user_error(r"last\.pt: found weights of problem single, expected multi to refine"):
        Predictor.load(single, "cpu", refine=single)
    expected = "found joints of skeleton mpii, none of them in found, expected some of the same name"
    with user_error(f"last.pt: {expected}"):
        Refiner.load(single, FOUND, device=CPU, flip=True, batch=1)
    with user_error(r"nowhere\.pt: no such file"):
        Predictor.load(multi, "cpu", refine=tmp_path / "nowhere.pt")


def test_a_predictor_refines_whom_it_finds(params, tmp_path):
    single = write_initial_weights(params, "hgpose", tmp_path / "single")
    multi = write_active_weights(params, tmp_path / "multi")
    image = np.random.default_rng(0).integers(0, 255, (90, 120, 3), dtype=np.uint8)
    [plain] = Predictor.load(multi, "cpu").predict([image], min_score=0.2)
    [refined] = Predictor.load(multi, "cpu", refine=single).predict([image], min_score=0.2)
    assert len(refined) == len(plain) > 0
    known_K = same_joints(built_in("coco"), built_in("mpii")) >= 0
    # Who is who: by the joints that stay as they are. The new scores rank people in another order.
    one, other = (np.lexsort(of.joint_PK2[:, ~known_K].reshape(len(of), -1).T) for of in (refined, plain))
    np.testing.assert_array_equal(refined.joint_PK2[one][:, ~known_K], plain.joint_PK2[other][:, ~known_K])
    assert (refined.score_PK[one] >= plain.score_PK[other]).all()
    assert (refined.score_P[one] != plain.score_P[other]).any()
    assert (np.diff(refined.score_P) <= 0).all()


@pytest.fixture
def refining(params: Params, tmp_path: Path) -> Params:
    """Parameters by which hgpose refines, and weights of both tasks in a folder."""
    few = {"multi.thresholds.tune": False, "multi.thresholds.detection": 0.8}
    few |= {"evaluate.refine": {"hgpose-ae": "hgpose"}, "evaluate.train_images": 0}
    params = with_values(params, few)
    write_initial_weights(params, "hgpose", tmp_path / "models/hgpose")
    write_active_weights(params, tmp_path / "models/hgpose-ae")
    return params


def test_an_evaluation_scores_refined_people_beside_the_others(
    refining, prepared_coco, tmp_path, monkeypatch, caplog
):
    monkeypatch.chdir(tmp_path)
    evaluate(refining, "hgpose-ae", prepared=prepared_coco)
    metrics = json.loads(Path("metrics/hgpose-ae.json").read_text())
    assert metrics["COCO refined"].keys() == metrics["COCO"].keys()
    assert " images refined by hgpose: " in caplog.text
    assert " ms an image" in caplog.text
    [fact] = [fact for fact in provenance("metrics/hgpose-ae.json") if fact.name == "refined by"]
    file = "models/hgpose/last.pt"
    assert fact.value == {"md5": file_hash(file), "file": file, "there": True}


def test_weights_of_another_task_do_not_refine(refining, prepared_coco, tmp_path):
    other = with_values(refining, {"evaluate.refine": {"hgpose-ae": "advpose"}})
    (tmp_path / "models/hgpose").rename(tmp_path / "models/advpose")
    with user_error(r"advpose/last\.pt: weights of task 'hgpose', expected 'advpose'"):
        evaluate(other, "hgpose-ae", folder=tmp_path, prepared=prepared_coco)


def test_dvc_must_know_what_refines(refining, prepared_coco, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("DVC_STAGE", "evaluate@hgpose-ae")
    expected = "expected a dependency of evaluate@hgpose-ae; write `refine: .*/models/hgpose` into its entry"
    with user_error(rf"^evaluate\.refine: found .*/models/hgpose, {expected} in dvc\.yaml$"):
        evaluate(refining, "hgpose-ae", folder=tmp_path, prepared=prepared_coco)


@pytest.mark.parametrize("task", ["hgpose-ae", "nobody"])
def test_only_a_task_of_single_people_refines(task, params):
    found = f"evaluate.refine: found '{task}', expected a task of problem single: hgpose, advpose"
    with user_error(found):
        with_values(params, {"evaluate.refine": {"hgpose-ae": task}})
