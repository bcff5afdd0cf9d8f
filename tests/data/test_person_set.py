"""The reader of the prepared person file."""

import pickle

import h5py
import numpy as np
import pytest
import raw_sets as raw
from helpers import noise, user_error

from pose.data.formats.lsp import LSP_TO_MPII
from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.keypoints.geometry import transform


def test_mpii_is_made_zero_based_once_and_lsp_not_at_all(tmp_path):
    joint_NJ3 = raw.write_lsp(tmp_path)
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg"))
    people, _ = raw.prepare_people(tmp_path)
    np.testing.assert_array_equal(people.joint_NK2[0, LSP_TO_MPII], joint_NJ3[0, :, :2])
    assert people.source_N[6] == "mpii"
    np.testing.assert_array_equal(people.joint_NK2[6, 3], [32, 42])
    scale = people.scale_N[6]
    np.testing.assert_array_equal(people.centre_N2[6], [59, 49 + 15 * scale])  # so that the feet are in
    assert np.isnan(people.joint_NK2[6, 15]).all()
    with h5py.File(people.path) as file:  # as published: one-based
        assert file["part"][6, 3].tolist() == [33, 43]
        assert file["center"][6].tolist() == [60, 50]


def test_images_have_the_pixels_of_the_raw_ones(tmp_path):
    raw.write_lspet(tmp_path, 3)
    people, _ = raw.prepare_people(tmp_path)
    place_N2 = np.array([[50, 40], [60, 55], [45, 60]])
    for row, (image, affine) in enumerate(people.images([0, 1, 2])):
        x_N, y_N = np.rint(transform(affine, place_N2)).astype(int).T
        expected_N3 = noise(row, 120, 100)[place_N2[:, 1], place_N2[:, 0]]
        # Red and blue exchanged would be far off in most of the nine.
        assert np.abs(image[y_N, x_N].astype(int) - expected_N3).max() < 40
    assert people.image_size_N2.tolist() == [[120, 100]] * 3


def test_rows_of_a_split_have_joints(tmp_path):
    raw.write_lsp(tmp_path)
    people, _ = raw.prepare_people(tmp_path)
    assert people.rows("train").tolist() == [0, 1, 2]
    assert people.rows("test").tolist() == [3, 4, 5]
    assert people.rows("validation").tolist() == []
    with pytest.raises(ValueError, match="no split 'valid'"):
        people.rows("valid")


def test_people_of_whole_images_have_the_box_of_their_joints(prepared_coco):
    people, images = PersonSet(prepared_coco), ImageSet(prepared_coco)
    assert {*people.rows("train"), *people.rows("validation")} <= {*range(len(images.row_N))}
    assert len(people.rows("test")) == 0
    for row in people.rows("validation").tolist():
        joint_N2 = people.joint_NK2[row][people.labelled_NK[row]]
        low_2, high_2 = joint_N2.min(axis=0), joint_N2.max(axis=0)
        np.testing.assert_allclose(people.centre_N2[row], (low_2 + high_2) / 2)
        assert 200 * people.scale_N[row] == pytest.approx((high_2 - low_2).max())
        assert people.image_id_N[row] == images.id_I[images.row_N[row]]
    [first, second, *_] = np.flatnonzero(np.bincount(images.row_N)[images.row_N] > 1)  # of one image
    (image, affine), (same, _) = people.images([second, first])
    expected, expected_affine = images.image(images.row_N[first])
    assert np.array_equal(image, expected)
    assert np.array_equal(same, expected)
    assert np.array_equal(affine, expected_affine)


def test_a_pickled_reader_reads(tmp_path):
    raw.write_lsp(tmp_path)
    people, _ = raw.prepare_people(tmp_path)
    again: PersonSet = pickle.loads(pickle.dumps(people))
    np.testing.assert_array_equal(again.image(2)[0], people.image(2)[0])
    np.testing.assert_array_equal(again.joint_NK2, people.joint_NK2)


def test_a_prepared_file_that_lacks_a_dataset_is_named(tmp_path):
    raw.write_lsp(tmp_path)
    people, _ = raw.prepare_people(tmp_path)
    with h5py.File(people.path, "a") as file:
        del file["part"]
    with user_error(r"lsp_mpii.h5: cannot be read as a prepared set .*'part'"):
        PersonSet(people.path)
