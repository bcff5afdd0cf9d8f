"""The reader of the prepared folder of a COCO set."""

import pickle
from pathlib import Path

import numpy as np
import pytest
from coco_files import coco_params, crowd_entry, image_entry, person_entry, prepare_images, write_annotations
from helpers import column, user_error

from pose.data.image_set import ImageSet
from pose.io.images import decode_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Rows: 0 two people, 1 a person and a crowd, 2 a validation image."""
    train = [person_entry(101, 1), person_entry(102, 1, joints=5), person_entry(103, 2), crowd_entry(104, 2)]
    write_annotations(tmp_path, "train2017", [image_entry(1), image_entry(2)], train)
    write_annotations(tmp_path, "val2017", [image_entry(11)], [person_entry(111, 11)])
    return tmp_path


def test_joints_are_cocos_numbers_and_nan_where_unlabelled(root):
    people, _ = prepare_images(root)
    joint_PK2, labelled_PK = people.joints(0)
    assert joint_PK2[0].tolist() == [[10 + 3 * k, 8 + 2 * k] for k in range(17)]
    assert labelled_PK.sum(axis=1).tolist() == [17, 5]
    assert np.isnan(joint_PK2[1, 5:]).all()
    assert [flag > 1 for _, _, flag in column(people, "keypoint")[0]] == [k % 2 == 1 for k in range(17)]
    assert people.row_N.tolist() == [0, 0, 1, 2]


def test_a_small_image_is_packed_as_it_came(root):
    people, _ = prepare_images(root)
    image, affine = people.image(0)
    np.testing.assert_array_equal(image, decode_image((root / "coco" / people.name(0)).read_bytes(), ""))
    np.testing.assert_array_equal(affine, np.eye(2, 3))


def test_a_large_image_is_shrunk_to_the_longest_side(root):
    people, _ = prepare_images(root, coco_params(longest=40))
    image, affine = people.image(0)
    assert image.shape == (30, 40, 3)
    np.testing.assert_allclose(affine, [[0.5, 0, -0.25], [0, 0.5, -0.25]])


def test_a_pickled_reader_reads(root):
    people, _ = prepare_images(root)
    again: ImageSet = pickle.loads(pickle.dumps(people))
    np.testing.assert_array_equal(again.image(0)[0], people.image(0)[0])
    np.testing.assert_array_equal(again.mask(1), people.mask(1))


def test_a_missing_or_foreign_file_is_named(tmp_path):
    with user_error(r"coco.h5: no such file"):
        ImageSet(tmp_path)
    (tmp_path / "coco.h5").write_bytes(b"something else")
    with user_error(r"coco.h5: cannot be read as HDF5"):
        ImageSet(tmp_path)
