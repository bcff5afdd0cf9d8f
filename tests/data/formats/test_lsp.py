"""The annotations of LSP and LSPET, with their quirks."""

import numpy as np
import pytest
import raw_sets as raw
from helpers import user_error

from pose.data.formats.lsp import LSP_TO_MPII, read_lsp, read_lspet

NOT_IN_LSP = [6, 7]  # pelvis and thorax


def test_lsp_joints_land_in_mpii_order_and_its_flag_means_occluded(tmp_path):
    joint_NJ3 = raw.write_lsp(tmp_path)
    table = read_lsp(tmp_path / "LSP")
    np.testing.assert_array_equal(table.part_NK2[:, LSP_TO_MPII], joint_NJ3[..., :2])
    np.testing.assert_array_equal(table.part_NK2[:, NOT_IN_LSP], 0)
    np.testing.assert_array_equal(table.visible_NK[:, LSP_TO_MPII], 1 - joint_NJ3[..., 2])
    assert table.visible_NK[0, 3] == 0  # LSP's joint 3, the left hip, is MPII's
    assert table.labelled_NK.sum(axis=1).tolist() == [14] * 6
    assert table.istrain_N.tolist() == [1] * 3 + [0] * 3  # the second half is the test set
    assert table.name_N[3] == "LSP/images/im0004.jpg"


def test_lspet_joints_that_are_not_annotated_are_absent(tmp_path):
    joint_NJ3 = raw.write_lspet(tmp_path)
    table = read_lspet(tmp_path / "LSPET")
    assert table.part_NK2[0, 3].tolist() == [0, 0]
    assert table.visible_NK[0, 3] == 0
    assert table.labelled_NK.sum() == 8 * 14 - 1
    np.testing.assert_array_equal(table.part_NK2[1:, LSP_TO_MPII], joint_NJ3[1:, :, :2])
    assert table.name_N[7] == "LSPET/images/im00008.jpg"


def test_centre_and_scale_come_from_the_box_of_the_labelled_joints(tmp_path):
    joint_NJ3 = raw.write_lspet(tmp_path)
    table = read_lspet(tmp_path / "LSPET")
    x, y = np.delete(joint_NJ3[0], 3, axis=0)[:, :2].T
    np.testing.assert_allclose(table.centre_N2[0], [(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    assert table.scale_N[0] == pytest.approx(1.1 * max(np.ptp(x), np.ptp(y)) / 200)


@pytest.mark.parametrize(
    ("read", "variables", "message"),
    [
        (read_lsp, {"joints": np.ones((14, 3, 5))}, r"of shape \(14, 3, 5\), expected .*\(3, 14, N\)"),
        (read_lspet, {"joints": np.ones((3, 14, 5))}, r"of shape \(3, 14, 5\), expected .*\(14, 3, N\)"),
        (read_lsp, {"points": np.ones((3, 14, 5))}, "found points, expected an array 'joints'"),
        (read_lsp, {"joints": "abc"}, "'joints' holds <U3 of shape .*, expected .*numbers"),
    ],
    ids=["LSPET's axes", "LSP's axes", "other variables", "text"],
)
def test_joints_of_another_layout_are_refused(tmp_path, read, variables, message):
    raw.write_mat(tmp_path / "joints.mat", **variables)
    with user_error(rf"joints\.mat: .*{message}"):
        read(tmp_path)


def test_the_real_lists_have_their_known_shares_of_flags(real_data):
    lsp, lspet = read_lsp(real_data / "lsp"), read_lspet(real_data / "lspet")
    assert lsp.labelled_NK[:, LSP_TO_MPII].all()
    assert lsp.visible_NK[:, LSP_TO_MPII].mean() == pytest.approx(0.927)
    assert lspet.labelled_NK[:, LSP_TO_MPII].mean() == pytest.approx(0.88, abs=0.002)
