"""What is shown of a multi-person task: everybody is found in half of the images, nobody in the others."""

import json

import numpy as np
import pytest

from pose.io.paths import PREPARED
from pose.keypoints.people import People
from pose.keypoints.skeleton import built_in
from pose.report.multi import KINDS, ImageResult, comparison
from pose.report.multi import REPORT as MULTI
from pose.report.run import read_run
from pose.tasks.task import open_data

TASK = "hgpose-ae"
SKELETON = built_in("coco")
SWAPPED = next(iter(KINDS))
UPPER, ARMS = (np.isin(np.arange(17), joints)[:, None] for joints in (range(11), range(7, 11)))
BEST, WORST = ("val2017/000000000008.jpg", "val2017/000000000126.jpg"), "val2017/000000000225.jpg"


class Images:
    """As much of a prepared set as a caution asks for."""

    unit = "images"

    def __init__(self, train, evaluation):
        self.counts = {"train": train, "evaluation": evaluation}

    def rows(self, subset):
        return range(self.counts[subset])


@pytest.fixture
def change_json(multi_copy):
    def change(name, replaced):
        path = multi_copy / name
        path.write_text(json.dumps(replaced(json.loads(path.read_text()))))

    return change


@pytest.fixture
def new_page(multi_copy, params_of, page_of):
    return lambda: page_of(multi_copy, params_of(TASK))


def test_our_metrics_stand_beside_the_published_ones_column_by_column(multi_page, multi_root):
    found = json.loads((multi_root / f"metrics/{TASK}.json").read_text())["COCO"]
    numbers = " ".join(f"{value:.3f}" for value in found.values())
    for words in (
        "AP AP50 AP75 AP M AP L AR AR50 AR75 AR M AR L",
        f"{TASK}, this run data/synthetic, 8 images {numbers}",  # nobody is large: two metrics less
        f"{TASK}, on images that show a labelled person data/synthetic, 7 images 0.568",
        f"{TASK}, grouped by distance alone data/synthetic, 8 images 0.123",
        f"{TASK}, on images it was trained on data/synthetic 0.765",
        "0.593 0.820 0.649 0.505 0.727 0.639 0.839 0.685 0.540 0.779",
        "Associative embedding, one scale HigherHRNet, README COCO test-dev 0.566",
        "Thresholds, tuned on images held out of training: peaks above 0.15, tags at most 0.75 apart; "
        "by distance alone, joints at most 0.3",
    ):
        assert words in multi_page.text
    assert "Newell et al. 2016" not in multi_page.text  # of single-person tasks


def test_refined_people_have_a_row_and_a_metric(change_json, new_page):
    change_json(f"metrics/{TASK}.json", lambda metrics: metrics | {"COCO refined": {"AP": 0.6543}})
    text = new_page().text
    assert f"{TASK}, people refined data/synthetic, 8 images 0.654" in text
    assert "AP refined AP with people refined by a single-person network 0.654" in text


def test_metrics_curves_and_joints_are_on_the_page(multi_page):
    for words in ("19 people, 8 images", "On images held out of training; dashed", "nose 1.000 100.0"):
        assert words in multi_page.text
    assert f"Precision over recall, {TASK}" in multi_page.charts
    over_time = "AP over steps", "AP50 over steps", "AR over steps", "AP over time"
    assert {f"{title}, {TASK}" for title in over_time} <= set(multi_page.charts)


def test_where_nothing_is_held_out_validation_is_on_images_trained_on(multi_root, params_of):
    params = params_of(TASK)
    nothing = params.multi.model_copy(update={"held_out": 0})
    run = read_run(params.model_copy(update={"multi": nothing}), TASK, multi_root)
    assert run.val_samples == "images trained on"


def test_synthetic_and_few_images_are_not_comparable(multi_page, multi_root, params_of):
    synthetic = "trained on 14 images of data/synthetic and evaluated on 8 others, all synthetic"
    assert f"Not comparable: {synthetic}" in multi_page.text
    params = params_of(TASK)
    params = params.model_copy(update={"data": params.data.model_copy(update={"root": "real"})})
    run = read_run(params, TASK, multi_root)
    (words,) = comparison([run], Images(1500, 200)).caution
    assert words.startswith("Not comparable: trained on 1,500 images of real and evaluated on 200 others, ")
    (words,) = comparison([run], Images(61_000, 500)).caution
    assert words.startswith("Trained on 61,000 images of real, evaluated on 500. The rows of valid_id are")


def test_the_best_and_the_worst_images_of_several_people_are_drawn_with_counts(multi_page):
    best, worst = multi_page.view("best"), multi_page.view("worst")
    assert (tuple(best), next(iter(worst))) == (BEST, WORST)
    assert best[BEST[0]] == "2 of 2 people found"  # the ghost of next to no score does not count
    assert worst[WORST] == "0 of 4 people found, 4 false"
    assert "images with several annotated people" in multi_page.text


@pytest.mark.parametrize(
    ("change", "kind", "times"),
    [
        (lambda people: people[:1], "missed", 1),
        (lambda people: [*people, people[0] + 500], "hallucinated", 1),
        (lambda people: [*people, people[0]], "inexact", 1),  # a second time
        (lambda people: [np.where(UPPER, people[0], people[1]), people[1]], "merged", 1),
        (lambda people: [np.where(ARMS, people[0][SKELETON.flip_index], people[0]), people[1]], SWAPPED, 2),
    ],
)
def test_errors_are_told_apart(multi_copy, params_of, change, kind, times):
    """In an image of two people, who are at their places otherwise."""
    run = read_run(params_of(TASK), TASK, multi_copy)
    data = open_data(run.problem, multi_copy / PREPARED["coco"])
    (row,) = [row for row in data.rows("evaluation") if data.images.name(row) == BEST[1]]
    true_PK2, labelled_PK = data.images.joints(row)
    people = [one for one, labelled in zip(true_PK2, labelled_PK, strict=True) if labelled.any()]

    def errors(people):
        joint_PK2 = np.nan_to_num(np.array(people), nan=-1000.0)
        found = People(joint_PK2, np.ones(joint_PK2.shape[:2]), np.ones(len(joint_PK2)))
        ranking = MULTI.ranking(run, data, {int(data.images.id_I[row]): found})
        (result,) = [result for result in ranking.ranked if result.row == row]
        return {kind: count for kind, count in ranking.errors(result).items() if count}

    assert errors(people) == {}
    assert errors(change(people))[kind] == times


def test_of_one_joint_a_detection_at_somebodys_joint_is_inexact():
    values = {"score_D": np.ones(1), "matched_TD": np.zeros((1, 1)) > 0, "counted_TD": np.ones((1, 1)) > 0}
    values |= {"row": 0, "true": 1, "joints_DP": np.array([[1]]), "swapped_D": np.zeros(1, dtype=int)}
    found = {joints: ImageResult(**values, joints=joints).errors(0.5) for joints in (1, 2)}
    assert (found[1]["inexact"], found[1]["hallucinated"]) == (1, 0)
    assert (found[2]["inexact"], found[2]["hallucinated"]) == (0, 1)


def test_predictions_below_the_score_of_the_best_f1_are_left_out(change_json, new_page, multi_page):
    change_json(f"predictions/{TASK}.json", lambda results: [one for one in results if one["score"] > 0.1])
    page = new_page()
    assert page.captions == multi_page.captions
    assert "below a score of 0.80" in page.text


def test_where_nobody_is_found_the_truth_is_drawn(change_json, new_page):
    change_json(f"predictions/{TASK}.json", lambda results: [])
    captions = new_page().captions
    assert len(captions) == 4
    assert all(caption.startswith("0 of ") and "false" not in caption for caption in captions.values())


def test_one_person_is_enough_where_no_image_has_more_and_people_without_joints_do_not_count(
    change_json, new_page
):
    def leave_one(content):
        seen = set()
        for person in content["annotations"]:
            if person["image_id"] in seen:
                person |= {"keypoints": [0] * 51, "num_keypoints": 0}
            elif person["num_keypoints"]:
                seen.add(person["image_id"])
        return content

    change_json("data/prepared/coco/annotations/validation.json", leave_one)
    page = new_page()
    assert "images with annotated people" in page.text
    assert page.captions[BEST[1]] == "1 of 1 people found"  # somebody else is found too, and is not false


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"images": [], "annotations": [], "categories": []}'])
def test_annotations_that_cannot_be_used_cost_the_images_only(multi_copy, new_page, content):
    path = multi_copy / "data/prepared/coco/annotations/validation.json"
    path.unlink() if content is None else path.write_text(content)
    page = new_page()
    assert "annotations/validation.json: " in page.text
    assert page.captions == {}
    assert "trained on 14 images" in page.text


def test_predictions_of_other_images_are_named(change_json, new_page):
    change_json(f"predictions/{TASK}.json", lambda results: [one | {"image_id": 999} for one in results])
    page = new_page()
    assert f"predictions/{TASK}.json: found image 999, expected evaluation images of" in page.text
    assert page.captions == {}
