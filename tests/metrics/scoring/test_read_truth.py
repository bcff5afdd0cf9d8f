"""What predictions are scored against, in all its formats; the same people give the same metrics."""

import json
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from coco_files import annotation_file_content, image_entry, person_entry, write_annotations
from helpers import COCO, user_error
from raw_sets import near, one_each, own_spec

from pose.data.person_set import PersonSet
from pose.data.prepare.categories import Joints
from pose.data.prepare.dataset import prepare_dataset
from pose.data.results import read_results, write_results
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.metrics.scoring.files import score_files
from pose.metrics.scoring.read_truth import read_truth
from pose.metrics.scoring.score import Score
from pose.params import DatasetParams
from pose.tasks.single import SingleData

Write = Callable[..., Path]
UNSAID = Joints()


def pckh(score: Score) -> dict[str, float]:
    return {one.metric: one.values[0].value for one in score.rows if one.table == "PCKh"}


def mpii_rows(people: PersonSet) -> np.ndarray:
    rows = people.rows("validation")
    return rows[people.source_N[rows] == "mpii"]


@pytest.fixture
def mpii_files(people: PersonSet, tmp_path: Path) -> Path:
    """MPII's validation people as other projects have them, and predictions of them as `pred.mat`."""
    rows, path = mpii_rows(people), tmp_path / "pred.mat"
    labelled_NK, part_NK2 = people.labelled_NK[rows], np.nan_to_num(people.joint_NK2[rows] + 1)
    box = np.zeros((2, 2, len(rows)))
    box[1, 0] = people.head_size_N[rows] / 0.6  # a flat head, whose diagonal is its width
    scipy.io.savemat(
        tmp_path / "gt_valid.mat",
        {"pos_gt_src": part_NK2.transpose(1, 2, 0), "jnt_missing": ~labelled_NK.T, "headboxes_src": box},
    )
    with h5py.File(tmp_path / "valid.h5", "w") as file:
        names = [people.name(row) for row in rows]
        file["index"] = [names.index(name) for name in names]
        file["normalize"], file["part"] = people.head_size_N[rows], part_NK2
    scipy.io.savemat(path, {"preds": part_NK2 + np.random.default_rng(0).normal(0, 4, part_NK2.shape)})
    return path


def test_mpiis_people_give_the_same_pckh_in_all_their_files(people, mpii_files):
    scores = {
        truth.name: score_files([mpii_files], truth, resamples=20)
        for truth in (people.path, mpii_files.with_name("gt_valid.mat"), mpii_files.with_name("valid.h5"))
    }
    expected = pckh(scores["lsp_mpii.h5"])
    assert 20 < expected["0.5"] < 95
    for name in ("gt_valid.mat", "valid.h5"):
        assert pckh(scores[name]) == pytest.approx(expected)
        assert {one.table for one in scores[name].rows} == {"PCKh"}
    # valid.h5 knows which people share an image, gt_valid.mat does not
    images = {name: score.counts[0]["images"] for name, score in scores.items()}
    assert images["valid.h5"] == images["lsp_mpii.h5"] <= images["gt_valid.mat"] == len(mpii_rows(people))


def test_one_person_in_mpiis_files_is_one(people, mpii_files):
    truth = mpii_files.with_name("gt_valid.mat")
    for path in (truth, mpii_files):
        arrays = scipy.io.loadmat(path)
        names = ("pos_gt_src", "jnt_missing", "headboxes_src") if path == truth else ("preds",)
        scipy.io.savemat(
            path, {name: arrays[name][..., :1] if path == truth else arrays[name][:1] for name in names}
        )
    assert score_files([mpii_files], truth).counts[0]["people"] == 1


def test_plain_arrays_give_the_same_and_say_who_shares_an_image(people, mpii_files):
    rows = mpii_rows(people)
    joint_NK2 = np.nan_to_num(people.joint_NK2[rows])
    flagged = np.concatenate([joint_NK2, people.labelled_NK[rows][..., None]], axis=2)
    names = np.array([people.name(row) for row in rows])
    sizes = {"head_size": people.head_size_N[rows], "image": names}
    expected = score_files([mpii_files], people.path, resamples=20)
    for joints in (people.joint_NK2[rows], flagged):
        np.savez(mpii_files.with_name("truth.npz"), joints=joints, **sizes)
        found = score_files([mpii_files], mpii_files.with_name("truth.npz"), "mpii", resamples=20)
        assert pckh(found) == pytest.approx(pckh(expected))
        assert found.counts[0]["images"] == expected.counts[0]["images"]


def test_people_in_images_of_their_own_are_matched_by_the_name_of_the_file(people, tmp_path):
    rows, path = people.rows("test"), tmp_path / "joints.json"
    found = near(people.joint_NK2[rows], 0.0)
    files = [f"/elsewhere/{people.name(row)}" for row in rows]
    images = [ImageResult(one, file) for one, file in zip(one_each(found), files, strict=True)]
    write_results(path, Results(images, people.skeleton, 16), "json")
    score = score_files([path], people.path, resamples=0)
    assert {one.values[0].value for one in score.rows} == {100}
    assert score.counts[0]["people"] == len(rows)
    two = People(*(column[:2] for column in vars(found).values()))
    write_results(path, Results([ImageResult(two, files[0])], people.skeleton, 16), "json")
    with user_error(r"joints\.json: found 2 people in .*, expected one, whom"):
        score_files([path], people.path)


def test_arrays_of_cocos_people_have_pck_and_with_confidences_ap_too(images, tmp_path):
    annotations = images.annotations("validation")
    truth = read_truth(annotations, UNSAID)
    joint_NK2 = np.nan_to_num(truth.people.joint_NK2)
    ones = np.ones((*joint_NK2.shape[:2], 1))
    np.save(tmp_path / "bare.npy", joint_NK2)
    np.save(tmp_path / "sure.npy", np.concatenate([joint_NK2, ones], axis=2))
    files = tmp_path / "bare.npy", tmp_path / "sure.npy"
    bare, sure = (score_files([path], annotations, resamples=0) for path in files)
    assert {one.table for one in bare.rows} == {"PCK"}
    assert {one.table for one in sure.rows} == {"PCK", "COCO"}
    assert {one.values[0].value for one in sure.rows if one.table == "PCK"} == {100}
    assert [one.values[0].value for one in sure.rows if one.metric == "AP"] == [pytest.approx(1)]


def test_people_of_a_data_set_of_ones_own_have_the_scores_of_their_evaluation(params, tmp_path):
    entries = [image_entry(number) for number in range(1, 13)]
    people = [person_entry(number, (number + 2) // 2, area=2000.0 + number) for number in range(1, 21)]
    write_annotations(tmp_path, "train2017", entries, people)
    spec = DatasetParams.model_validate(own_spec(tmp_path / "coco", problems=["single"]))
    prepare_dataset("own", spec, tmp_path / "own", params=params.prepare, seed=1, workers=1)
    data = SingleData(PersonSet(tmp_path / "own" / "people.h5"), params.single, max_val=0)
    rows = data.rows("evaluation")
    each = one_each(near(data.people.joint_NK2[rows], 3.0))
    write_results(tmp_path / "own.h5", data.results("hgpose", each, rows), "rows")
    score = score_files([tmp_path / "own.h5"], data.people.path, resamples=10)
    expected = data.score(each, rows)
    for table in ("PCK", "COCO"):
        found_row = {one.metric: one.values[0].value for one in score.rows if one.table == table}
        assert found_row == pytest.approx(expected[table], abs=0.01)


def test_a_prepared_folder_and_its_file_are_the_annotations_of_the_evaluated_images(images):
    for path in (images.path.parent, images.path, images.annotations("validation")):
        truth = read_truth(path, UNSAID)
        assert [image.image_id for image in truth.images] == images.id_I[images.rows("validation")].tolist()
        assert truth.skeleton == COCO
    assert len(read_truth(images.annotations("train"), UNSAID).images) == len(images.rows("train"))


def test_annotations_alone_say_their_joints_and_a_file_their_sigmas(images, coco_file, tmp_path):
    content = json.loads(images.annotations("validation").read_text())
    path = coco_file("results.json", 2.0)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    whole = score_files([path], images.path.parent, resamples=0)
    assert score_files([path], tmp_path / "truth.json", resamples=0).rows == whole.rows
    for category in content["categories"]:
        category["keypoints"] = [f"joint {number}" for number in range(17)]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    (tmp_path / "strict.yaml").write_text(f"sigmas: {[0.01] * 17}\n")
    plain, strict = (
        score_files([path], tmp_path / "truth.json", skeleton, resamples=0).rows[0].values[0].value
        for skeleton in (None, str(tmp_path / "strict.yaml"))
    )
    assert strict < plain
    (tmp_path / "short.yaml").write_text("sigmas: [0.01]\n")
    with user_error("found 1 sigmas, expected 17"):
        score_files([path], tmp_path / "truth.json", str(tmp_path / "short.yaml"))


def test_the_order_of_people_is_that_of_their_annotations(tmp_path):
    people = [person_entry(number, 1 + number % 3, keypoints=[number, 9, 2] * 17) for number in (5, 1, 4, 2)]
    content = annotation_file_content([image_entry(number) for number in (1, 2, 3)], people)
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = read_truth(tmp_path / "truth.json", UNSAID)
    assert truth.people.joint_NK2[:, 0, 0].tolist() == [5, 1, 4, 2]
    assert [truth.images[number].image_id for number in truth.image_N] == [3, 2, 2, 3]


def test_sizes_that_nothing_says_are_unknown_and_an_rle_says_them(tmp_path):
    images = [{"id": number, "file_name": f"{number}.jpg"} for number in (1, 2)]
    outlined = person_entry(1, 1, segmentation={"size": [60, 80], "counts": [600, 700, 3500]})
    content = annotation_file_content(images, [outlined, person_entry(2, 2)])
    (tmp_path / "truth.json").write_text(json.dumps(content))
    truth = read_truth(tmp_path / "truth.json", UNSAID)
    assert [(image.width, image.height) for image in truth.images] == [(80, 60), (None, None)]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"joint": np.zeros((3, 16, 2))}, "joints: found none, expected numbers of shape"),
        ({"joints": np.zeros((3, 16))}, r"joints: found float64 of shape \(3, 16\), expected numbers"),
        (
            {"joints": np.zeros((3, 16, 2)), "head_size": np.ones(2)},
            r"head_size: found shape \(2,\), expected \(3,\)",
        ),
        ({"joints": np.zeros((3, 16, 2))}, "nothing to measure .* by, found no head sizes"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(arrays, message, tmp_path):
    np.savez(tmp_path / "truth.npz", **arrays)
    np.save(tmp_path / "a.npy", np.zeros((3, 16, 2)))
    with user_error(rf"truth\.npz: {message}"):
        score_files([tmp_path / "a.npy"], tmp_path / "truth.npz", "mpii")


def test_files_of_mpii_that_lack_something_are_refused(mpii_files):
    scipy.io.savemat(mpii_files.with_name("gt_valid.mat"), {"pos_gt_src": np.zeros((16, 2, 3))})
    with user_error(r"gt_valid\.mat: found pos_gt_src, expected pos_gt_src"):
        score_files([mpii_files], mpii_files.with_name("gt_valid.mat"))
    assert len(read_results(mpii_files).images) > 0
