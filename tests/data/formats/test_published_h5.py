"""The published `lsp_mpii.h5`."""

import h5py
import numpy as np
import pytest
import raw_sets as raw
from helpers import user_error

from pose.data.formats.published_h5 import encode_name, read_published

ROW = ("LSP/images/im0001.jpg", 1)


def test_a_published_file_is_read_in_raw_numbers(tmp_path):
    rows = [ROW, ("mpii/images/a.jpg", 2), ("mpii/images/a.jpg", -1)]
    table = read_published(raw.write_published(tmp_path, rows))
    assert list(zip(table.name_N, table.istrain_N, strict=True)) == rows
    assert table.source_N.tolist() == [0, 2, 2]
    assert table.person_N.tolist() == [0, 0, 1]
    assert np.isnan(table.head_size_N).all()


def test_the_prepared_file_can_be_read_as_a_published_one(tmp_path):
    raw.write_lsp(tmp_path)
    raw.write_mpii_mat(tmp_path)
    people, _ = raw.prepare_people(tmp_path)
    table = read_published(people.path)
    assert table.name_N.tolist() == [name for name, _ in raw.splits_of(people)]
    np.testing.assert_array_equal(table.labelled_NK, people.labelled_NK)
    people.path.rename(tmp_path / "lsp_mpii.h5")
    again, _ = raw.prepare_people(tmp_path)
    np.testing.assert_array_equal(again.joint_NK2, people.joint_NK2)


@pytest.mark.parametrize(
    ("rows", "replaced", "message"),
    [
        ([ROW], {"part": None}, r"'part' is missing, found center, .*, expected .*\(1, 16, 2\)"),
        ([ROW], {"part": np.ones((1, 14, 2))}, r"'part' holds .*shape \(1, 14, 2\), expected .*\(1, 16, 2\)"),
        ([ROW], {"imgname": np.full((1, 50), -5.0)}, "'imgname': cannot be read as codes of characters"),
        ([ROW], {"imgname": np.full((1, 50), np.nan)}, "'imgname': cannot be read as codes of characters"),
        ([("flic/images/a.jpg", 1)], {}, "'flic/images/a.jpg', expected one that begins with LSP/"),
        ([("LSP/../../etc/a.jpg", 1)], {}, "is not usable"),
    ],
)
def test_a_file_of_another_layout_is_refused(tmp_path, rows, replaced, message):
    path = raw.write_published(tmp_path, rows, **replaced)
    with user_error(rf"lsp_mpii\.h5: .*{message}"):
        read_published(path)


def test_data_that_lies_in_another_file_is_refused(tmp_path):
    path = raw.write_published(tmp_path, [ROW], part=None)
    with h5py.File(path, "a") as file:
        file["part"] = h5py.ExternalLink("other.h5", "part")
    with user_error(r"lsp_mpii\.h5: dataset 'part' is a link"):
        read_published(path)


def test_a_name_that_the_layout_has_no_room_for_is_refused():
    with user_error("has 56 characters, expected at most 50"):
        encode_name("mpii/images/" + "a" * 40 + ".jpg")
