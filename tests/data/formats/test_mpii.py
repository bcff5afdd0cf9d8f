"""MPII's annotations: the published `.mat` and the `.json` that several projects ship."""

import numpy as np
import pytest
import raw_sets as raw
from helpers import user_error

from pose.data.formats.mpii import read_mpii_json, read_mpii_mat


def test_the_mat_is_read_with_all_its_quirks(tmp_path):
    table = read_mpii_mat(raw.write_mpii_mat(tmp_path))
    stems = ["full", "two", "two", "heads_only", "no_points", "empty_place", "test", "test_without_place"]
    assert table.name_N.tolist() == [f"mpii/images/{stem}.jpg" for stem in stems]
    assert table.istrain_N.tolist() == [1, 1, 1, -1, -1, -1, 2, 2]
    assert table.person_N.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(table.part_NK2[0], [[30 + joint, 40.5 + joint] for joint in range(16)])
    # Neck and head top have no flag: visible.
    assert table.visible_NK[0].tolist() == [0, 1, 0, 1, 0, 1, 0, 1, 1, 1, 0, 1, 0, 1, 0, 1]
    assert table.part_NK2[1, 9].tolist() == [31, 32]
    assert table.visible_NK[1, [0, 9]].tolist() == [0, 1]  # written as text
    assert np.flatnonzero(table.labelled_NK[1]).tolist() == [0, 9]  # joint 12 lies at a negative x
    assert table.part_NK2[2, 4].tolist() == [51, 52]  # no is_visible at all
    np.testing.assert_allclose(table.head_size_N[:3], [30, 30, np.nan])  # 0.6 * diagonal of 30 x 40
    np.testing.assert_array_equal(table.centre_N2[:3], [[60, 50], [60, 50], [70, 55]])
    assert np.isnan(table.centre_N2[[3, 5, 7]]).all()
    assert np.isnan(table.scale_N[[3, 5, 7]]).all()
    assert (table.part_NK2[6:] == -1).all()  # the test people's joints are the benchmark's secret


def test_the_json_tells_who_validates(tmp_path):
    people = raw.listed_person("a.jpg", 1, validates=True), raw.listed_person("a.jpg", 2)
    table, validation_N = read_mpii_json(raw.write_mpii_json(tmp_path, *people))
    assert validation_N.tolist() == [True, False]
    assert table.person_N.tolist() == [0, 1]
    assert table.istrain_N.tolist() == [1, 1]
    assert table.labelled_NK.sum(axis=1).tolist() == [15, 15]
    assert np.isnan(table.head_size_N).all()


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"x": 1.0}, "found x, expected a structure RELEASE"),
        ({"RELEASE": raw.struct({"version": "12"})}, "cannot be read as MPII's .* .missing: 'annolist'"),
    ],
)
def test_a_mat_of_another_layout_is_refused(tmp_path, variables, message):
    path = raw.write_mat(tmp_path / "mpii" / "mpii_human_pose_v1_u12_1.mat", **variables)
    with user_error(rf"u12_1\.mat: {message}"):
        read_mpii_mat(path)


def with_joint(number: int) -> np.ndarray:
    """A person of this joint alone."""
    return raw.struct(raw.mpii_place(1.0, 1, 1) | raw.mpii_points((number, 1, 1, 1)))


@pytest.mark.parametrize(
    ("people", "message"),
    [
        (with_joint(16), "image 1: cannot be read as .* .found joint id 16, expected 0 to 15"),
        (with_joint(-1), "image 1: cannot be read as .* .found joint id -1, expected 0 to 15"),
        (np.zeros((0, 0)), "cannot be read as MPII's annotations"),
    ],
    ids=["16", "-1", "nobody"],
)
def test_a_mat_of_other_people_is_refused(tmp_path, people, message):
    path = raw.write_mpii_mat(tmp_path, [("a.jpg", True, people)])
    with user_error(rf"u12_1\.mat: {message}"):
        read_mpii_mat(path)


@pytest.mark.parametrize(
    ("people", "message"),
    [
        ({"a": 1}, "person 1: cannot be read as an annotated person"),
        ([], "cannot be read as a list of MPII's people"),
        ([{"img_paths": "a.jpg"}], "person 1: cannot be read .*'joint_self'"),
        ([raw.listed_person("a.jpg", joint_self=[[1, 2, 1]] * 15)], "person 1: cannot be read .*size 45"),
        ([raw.listed_person("a.jpg", scale_provided="big")], "person 1: cannot be read .*'big'"),
        ([raw.listed_person("../../a.jpg")], r"image name 'images/\.\./\.\./a\.jpg' is not usable"),
    ],
)
def test_people_of_another_layout_are_refused(tmp_path, monkeypatch, people, message):
    monkeypatch.setattr("pose.data.formats.mpii.read_json", lambda path: people)
    with user_error(f"^mpii_annotations.json: .*{message}"):
        read_mpii_json("mpii_annotations.json")
