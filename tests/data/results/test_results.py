"""Files of predictions: what each format holds comes back, and what is no such file is named."""

import json
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io
from helpers import COCO, MPII, user_error

from pose.data.results import FORMATS, check_content, format_of, read_results, write_results
from pose.keypoints.people import People
from pose.keypoints.results import ImageResult, Results
from pose.keypoints.skeleton import Skeleton, read_skeleton

RNG = np.random.default_rng(0)
OWN = read_skeleton('{"name": "mouse", "joints": ["snout", "left_ear", "right_ear", "tail"]}', "own")


def someone(joints: int, people: int = 1) -> People:
    score_PK = RNG.uniform(0, 1, (people, joints)).round(4)
    return People(RNG.uniform(0, 300, (people, joints, 2)).round(2), score_PK, score_PK.mean(axis=1).round(4))


def people_of(skeleton: Skeleton, *counts: int) -> Results:
    """Images of so many people, with everything that any format holds; a joint was not found."""
    size, joints = {"width": 320, "height": 240}, len(skeleton)
    images = [
        ImageResult(someone(joints, count), f"a/{number}.jpg", image_id=10 + number, **size)
        for number, count in enumerate(counts)
    ]
    images[0].people.joint_PK2[0, 1], images[0].people.score_PK[0, 1] = np.nan, 0
    return Results(images, skeleton, joints, task="hgpose")


def rows_of(skeleton: Skeleton, *rows: int) -> Results:
    results = people_of(skeleton, *[1] * len(rows))
    images = [replace(one, row=row) for one, row in zip(results.images, rows, strict=True)]
    return replace(results, images=images)


def written(results: Results, path: Path, format: str | None = None) -> Results:
    write_results(path, results, format_of(path, format))
    return read_results(path)


@pytest.mark.parametrize("skeleton", [COCO, OWN], ids=["coco", "own"])
def test_json_holds_everything_of_images_with_any_number_of_people(skeleton, tmp_path):
    results = people_of(skeleton, 2, 0, 1)
    back = written(results, tmp_path / "joints.json")
    assert (back.task, back.skeleton.name, back.skeleton.joints) == ("hgpose", skeleton.name, skeleton.joints)
    for one, other in zip(results.images, back.images, strict=True):
        assert (one.file, one.width, one.height) == (other.file, other.width, other.height)
        for name, values in vars(one.people).items():
            np.testing.assert_array_equal(getattr(other.people, name), values)


def test_csv_holds_people_frames_and_times_but_no_image_without_people(tmp_path):
    results = people_of(MPII, 2, 0, 1)
    frames = [replace(one, frame=number, seconds=number / 8) for number, one in enumerate(results.images)]
    for images in (results.images, frames):
        back = written(replace(results, images=images), tmp_path / "joints.csv")
        kept = [images[0], images[2]]
        assert [(one.file, one.frame, one.seconds) for one in back.images] == [
            (one.file, one.frame, one.seconds) for one in kept
        ]
        for one, other in zip(kept, back.images, strict=True):
            np.testing.assert_array_equal(one.people.joint_PK2, other.people.joint_PK2)
            np.testing.assert_array_equal(one.people.score_P, other.people.score_P)
        assert back.skeleton == MPII


@pytest.mark.parametrize("name", ["joints.json", "joints.csv"])
def test_ids_of_people_over_a_film_are_kept(name, tmp_path):
    results = people_of(COCO, 2, 1)
    tracks = [[4, 7], [7]]
    images = [
        replace(one, frame=number, seconds=number / 8, tracks=tracks[number])
        for number, one in enumerate(results.images)
    ]
    back = written(replace(results, images=images), tmp_path / name)
    assert [one.tracks for one in back.images] == tracks


@pytest.mark.parametrize("name", ["joints.json", "joints.csv"])
def test_a_byte_order_mark_is_no_content(name, tmp_path):
    write_results(tmp_path / name, people_of(COCO, 2), format_of(tmp_path / name, None))
    (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + (tmp_path / name).read_bytes())
    assert len(read_results(tmp_path / name)) == 2


@pytest.mark.parametrize("name", ["joints.json", "joints.csv"])
def test_a_score_that_is_no_number_is_refused(name, tmp_path):
    results = people_of(COCO, 2)
    results.images[0].people.score_P[1] = np.nan
    write_results(tmp_path / name, results, format_of(tmp_path / name, None))
    with user_error("found a person of score nan, expected a number"):
        read_results(tmp_path / name)


def test_coco_results_hold_ids_and_put_what_was_not_found_in_the_middle(tmp_path):
    results = people_of(COCO, 2, 0, 1, 1)
    results.images[3].people.joint_PK2[:] = np.nan  # somebody without any place is left out
    back = written(replace(results, category=3), tmp_path / "results.json", "coco")
    assert (back.skeleton, back.joints, back.category) == (None, 17, 3)
    assert [(one.image_id, len(one.people)) for one in back.images] == [(10, 2), (12, 1)]
    first, other = results.images[0].people, back.images[0].people
    middle_2 = np.nanmean(first.joint_PK2[0], axis=0)
    np.testing.assert_allclose(other.joint_PK2[0, 1], middle_2, atol=0.006)
    np.testing.assert_array_equal(other.joint_PK2[1], first.joint_PK2[1])
    np.testing.assert_array_equal(other.score_PK, first.score_PK)


def test_rows_hold_one_person_each_with_the_names_of_their_joints(tmp_path):
    for skeleton in (MPII, OWN):
        results = rows_of(skeleton, 7, 2, 9)
        back = written(results, tmp_path / "hgpose.h5")
        assert [one.row for one in back.images] == [7, 2, 9]
        assert (back.task, back.skeleton.joints) == ("hgpose", skeleton.joints)
        for one, other in zip(results.images, back.images, strict=True):
            np.testing.assert_allclose(one.people.joint_PK2, other.people.joint_PK2, rtol=1e-6)
            np.testing.assert_allclose(one.people.score_PK, other.people.score_PK, rtol=1e-6)
            np.testing.assert_allclose(other.people.score_P, one.people.score_PK.mean(axis=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "scores"), [("a.mat", False), ("a.h5", False), ("a.npy", True), ("a.npz", True)]
)
def test_arrays_hold_one_person_a_row_in_order(name, scores, tmp_path):
    results = people_of(MPII, 1, 1, 1)
    back = written(results, tmp_path / name, "preds" if name == "a.h5" else None)
    assert (back.has_scores, back.skeleton) == (scores, None if scores else MPII)
    for one, other in zip(results.images, back.images, strict=True):
        np.testing.assert_allclose(other.people.joint_PK2, one.people.joint_PK2, rtol=1e-12)
        expected_PK = one.people.score_PK if scores else np.ones((1, 16))
        np.testing.assert_array_equal(other.people.score_PK, expected_PK)


@pytest.mark.parametrize("people", [1, 3])
def test_mpiis_predictions_count_pixels_from_1_in_either_order_of_axes(people, tmp_path):
    preds_NK2 = RNG.uniform(1, 300, (people, 16, 2))
    scipy.io.savemat(tmp_path / "pred.mat", {"preds": preds_NK2})
    with h5py.File(tmp_path / "valid.h5", "w") as file:  # as MATLAB writes it
        file["preds"] = preds_NK2.transpose(2, 1, 0)
    for name in ("pred.mat", "valid.h5"):
        found = [one.people.joint_PK2[0] for one in read_results(tmp_path / name).images]
        np.testing.assert_allclose(found, preds_NK2 - 1)


RESULT = {"image_id": 1, "category_id": 1, "keypoints": [1.0] * 51, "score": 0.5}
DAMAGED = {
    "empty.json": (b"", "found a file .json of another content, expected predictions: json, coco"),
    "a.txt": (b"x", "found a file .txt, expected predictions: .csv, .h5"),
    "keypoints.json": ([RESULT, RESULT | {"keypoints": [1] * 48}], "result 2: found 48 numbers in keypoints"),
    "id.json": ([RESULT | {"image_id": "7"}], "result 1: found image_id '7', expected a whole number"),
    "nan.json": ([RESULT | {"score": float("nan")}], "found NaN or a number beyond"),
    "no_score.json": ([{"image_id": 1, "keypoints": [1] * 51}], "cannot be read as COCO results"),
    "truth.json": ({"images": [{"id": 1}], "annotations": []}, "cannot be read as images of people"),
    "joints.json": (
        {"images": [{"file": "a", "people": [{"score": 1, "joints": [{"joint": "nose", "x": 1}]}]}]},
        "image 1: cannot be read as people .*'y'",
    ),
    "a.csv": (b"file,x\nb,1\n", "no column frame, seconds, person, .*, found file, x"),
    "a.npy": (b"\x93NUMPY", "cannot be read as arrays of numpy"),
    "a.mat": (b"MATLAB", "cannot be read as a MATLAB file"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_what_holds_no_predictions_is_named_in_one_line(name, tmp_path):
    content, message = DAMAGED[name]
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with user_error(f"{name}: {message}"):
        read_results(tmp_path / name)


@pytest.mark.parametrize("shape", [(3, 16), (3, 16, 4), (3, 0, 2)])
def test_arrays_of_another_shape_are_refused(shape, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(shape))
    with user_error(r"a\.npy: found float64 of shape .*, expected numbers of shape \(N, K, 2 or 3\)"):
        read_results(tmp_path / "a.npy")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["heatmaps"] = np.zeros(shape)
    with user_error(r"a\.h5: found a file .h5 of another content, expected predictions: rows"):
        read_results(tmp_path / "a.h5")


def test_a_format_that_cannot_hold_predictions_says_what_it_lacks():
    several = people_of(COCO, 2, 1)
    for format, message in {
        "rows": "found no row of a/0.jpg, expected one for format rows",
        "preds": "found 2 people in a/0.jpg, expected one: format preds has one person a row",
    }.items():
        with user_error(message):
            check_content(several, format)
    nameless = replace(several, images=[replace(one, file=None) for one in several.images])
    with user_error("found no file of image 10, expected one for format json"):
        check_content(nameless, "json")
    with user_error("found no names of joints"):
        check_content(replace(several, skeleton=None), "csv")
    frames = replace(several, images=[replace(one, frame=3) for one in several.images])
    with user_error("found frame 3 of a video, format coco has images"):
        check_content(frames, "coco")


def test_the_suffix_says_the_format_and_an_option_which_of_two():
    assert [format_of(Path(name), None) for name in ("a.json", "a.h5", "a.mat")] == ["json", "rows", "preds"]
    assert format_of(Path("a.json"), "coco") == "coco"
    with user_error(r"found csv for a\.json, expected json or coco"):
        format_of(Path("a.json"), "csv")
    with user_error(r"a\.txt: found suffix '\.txt', expected one of \.csv, \.h5"):
        format_of(Path("a.txt"), None)
    assert {suffix for one in FORMATS.values() for suffix in one.suffixes} >= {".json", ".csv", ".npz"}
