"""Folders of LSP and MPII and a published file as sources of a data set of one's own."""

import numpy as np
import pytest
import raw_sets as raw
from raw_sets import prepare_own as prepare

from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet


def test_lsp_alone_has_its_own_skeleton_and_its_second_half_is_evaluated(tmp_path):
    joint_NJ3 = raw.write_lsp(tmp_path)
    out, _ = prepare(tmp_path, tmp_path / "LSP")
    people = PersonSet(out / "people.h5")
    assert people.skeleton.name == "lsp"
    np.testing.assert_array_equal(people.joint_NK2, joint_NJ3[..., :2])
    assert people.split_N.tolist() == ["train"] * 3 + ["validation"] * 3
    low, high = joint_NJ3[0, :, :2].min(axis=0), joint_NJ3[0, :, :2].max(axis=0)
    np.testing.assert_allclose(people.centre_N2[0], (low + high) / 2)


def test_lsp_joins_mpii_whose_other_joints_are_then_unlabelled(tmp_path):
    raw.write_lsp(tmp_path)
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg"), raw.listed_person("b.jpg", validates=True))
    out, summary = prepare(tmp_path, tmp_path / "mpii", tmp_path / "LSP")
    people = PersonSet(out / "people.h5")
    assert (people.skeleton.name, len(people)) == ("mpii", 8)
    assert "joints that the file lacks: 2 (first: pelvis)" in str(summary)
    np.testing.assert_array_equal(people.joint_NK2[0, 3], [32, 42])  # zero-based
    assert np.isnan(people.joint_NK2[2, 6]).all()
    scale = people.scale_N[0]
    np.testing.assert_allclose(people.centre_N2[0], [59, 49 + 15 * scale])  # as in lsp_mpii.h5


def test_images_of_mpii_in_which_nobody_is_placed_are_not_taken_for_empty(tmp_path):
    """As its test images, whose people are secret: whoever was found there would count as wrong."""
    unknown = raw.listed_person("c.jpg", scale_provided=0.0)
    validates = raw.listed_person("b.jpg", validates=True)
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg"), unknown, validates)
    images = ImageSet(prepare(tmp_path, tmp_path / "mpii", problems=["multi"])[0])
    assert [images.name(row) for row in range(len(images))] == ["a.jpg", "b.jpg"]
    assert images.split_I.tolist() == ["train", "validation"]


def test_of_mpiis_folder_the_list_says_who_validates_and_the_mat_the_rest(tmp_path):
    raw.write_mpii_mat(tmp_path)
    raw.write_mpii_json(tmp_path, raw.listed_person("full.jpg", validates=True), images=False)
    out, summary = prepare(tmp_path, tmp_path / "mpii")
    people = PersonSet(out / "people.h5")
    assert [people.name(row) for row in people.rows("validation")] == ["full.jpg"]
    assert people.head_size_N[people.rows("validation")] == pytest.approx([30])
    assert len(people) == 3
    for note in (
        "people who validate, by mpii_annotations.json: 1 (first: mpii/images/full.jpg)",
        "people with no scale or objpos, left out: 2 (first: mpii/images/heads_only.jpg)",
        "people of MPII's test set, left out: 2 (first: mpii/images/test.jpg)",
    ):
        assert f"mpii_human_pose_v1_u12_1.mat: {note}" in str(summary)


def test_all_people_of_an_image_of_mpii_are_trained_on_together(tmp_path):
    two = [raw.listed_person("a.jpg"), raw.listed_person("a.jpg", 2, objpos=[70.0, 52.0])]
    raw.write_mpii_json(tmp_path, *two, raw.listed_person("b.jpg", validates=True))
    out, _ = prepare(tmp_path, tmp_path / "mpii")
    images = ImageSet(out)
    joint_PK2, labelled_PK = images.joints(images.rows("train")[0])
    assert labelled_PK.sum(axis=1).tolist() == [15, 15]
    np.testing.assert_array_equal(joint_PK2[:, 3], [[32, 42]] * 2)  # counted from 0


def test_a_published_file_is_a_source_too(tmp_path):
    names = [f"mpii/images/{name}.jpg" for name in "ab"]
    raw.write_images(tmp_path / "mpii", ["a.jpg", "b.jpg"])
    out, summary = prepare(tmp_path, raw.write_published(tmp_path, [(name, 1) for name in names]))
    assert len(PersonSet(out / "people.h5")) == 2
    assert "0.5 of the images validate, drawn by the seed" in str(summary)
