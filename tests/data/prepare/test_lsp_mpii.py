"""From LSP, LSPET and MPII to the prepared person file."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import raw_sets as raw
from helpers import column, noise, user_error

from pose.data.formats.person_table import FEET_SHIFT
from pose.data.prepare.packing import chosen, pack_surroundings
from pose.io.images import decode_image, encode_jpeg
from pose.keypoints.geometry import transform

LISTED = raw.listed_person("full.jpg"), raw.listed_person("two.jpg", 2, validates=True, objpos=[70, 55])

# ---- who is in the file, and on which side ----


def test_held_out_people_are_chosen_by_name_whichever_images_are_present(tmp_path):
    raw.write_lspet(tmp_path, 40)
    before = raw.splits_of(raw.prepare_people(tmp_path)[0])
    assert {split for _, split in before} == {"train", "validation"}
    for number in range(1, 41, 3):
        (tmp_path / "LSPET" / "images" / f"im{number:05d}.jpg").unlink()
    after = raw.splits_of(raw.prepare_people(tmp_path)[0])
    assert len(after) == 26
    assert set(after) < set(before)


def test_about_the_asked_share_is_held_out_and_another_seed_holds_out_others():
    name_N = np.array([f"LSPET/images/im{number:05d}.jpg" for number in range(2000)], dtype=object)
    assert chosen(name_N, 0.1, 1).mean() == pytest.approx(0.1, abs=0.03)
    assert (chosen(name_N, 0.5, 1) != chosen(name_N, 0.5, 2)).mean() > 0.4
    assert not chosen(name_N, 0.0, 1).any()
    assert chosen(name_N, 1.0, 1).all()


def test_incomplete_people_of_the_mat_are_left_out_or_unused(tmp_path):
    raw.write_mpii_mat(tmp_path)
    people, summary = raw.prepare_people(tmp_path)
    assert summary.left_out == {("mpii unused", "no scale or objpos"): 3}
    unused = {name for name, split in raw.splits_of(people) if split == "unused"}
    assert unused == {"mpii/images/no_points.jpg", "mpii/images/test.jpg"}
    assert column(people, "istrain") == [1, 1, 1, -1, 2]
    assert not len(people.rows("unused"))  # nobody there has a joint
    assert "0.5 of the images held out" in str(summary)


def test_without_a_list_mpii_images_are_held_out_with_all_their_people(tmp_path):
    two = raw.mpii_images()[2][2]
    raw.write_mpii_mat(tmp_path, [(f"{number}.jpg", True, two) for number in range(20)])
    people, summary = raw.prepare_people(tmp_path)
    assert set(people.split_N.tolist()) == {"train", "validation"}
    np.testing.assert_array_equal(people.split_N[::2], people.split_N[1::2])
    assert summary.counts["mpii validation", "kept"] == (people.split_N == "validation").sum()


@pytest.mark.parametrize("name", ["mpii_annotations.json", "mpii_annotations.json.gz"])
def test_the_list_alone_gives_people_and_their_split(tmp_path, name):
    validating = [raw.listed_person(image, 2, validates=True) for image in ("b.jpg", "gone.jpg")]
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg"), *validating, name=name)
    (tmp_path / "mpii" / "images" / "gone.jpg").unlink()
    people, summary = raw.prepare_people(tmp_path)
    assert raw.splits_of(people) == [("mpii/images/a.jpg", "train"), ("mpii/images/b.jpg", "validation")]
    assert [summary.counts["mpii validation", column] for column in ("annotated", "kept")] == [2, 1]
    assert summary.left_out == {("mpii validation", "image missing"): 1}


def test_beside_the_mat_the_list_decides_the_split_and_the_mat_the_rest(tmp_path):
    raw.write_mpii_mat(tmp_path)
    raw.write_mpii_json(tmp_path, *LISTED, images=False)
    people, summary = raw.prepare_people(tmp_path)
    # The first person of two.jpg is not in the list: they must not train on an image that validates.
    assert people.split_N.tolist() == ["train", "unused", "validation", "unused", "unused"]
    np.testing.assert_allclose(people.head_size_N[:2], 30)
    assert people.joint_NK2[0, 0].tolist() == [29, 39.5]
    assert "1 people with joints are not in mpii_annotations.json" in str(summary)


def test_people_of_one_image_lie_together_in_the_order_of_first_mention(tmp_path):
    mentions = [("b.jpg", 1), ("a.jpg", 1), ("b.jpg", 2), ("a.jpg", 2)]
    raw.write_mpii_json(tmp_path, *(raw.listed_person(name, index) for name, index in mentions))
    people, _ = raw.prepare_people(tmp_path)
    assert [Path(name).stem for name, _ in raw.splits_of(people)] == ["b", "b", "a", "a"]
    assert column(people, "person") == [0, 1, 0, 1]


@pytest.mark.parametrize(("lsp", "lspet", "mpii"), [("LSP", "LSPET", "mpii"), ("lsp", "lspet", "MPII")])
def test_folders_may_be_spelled_either_way_and_names_are_spelled_one_way(tmp_path, lsp, lspet, mpii):
    raw.write_lsp(tmp_path, 2, lsp)
    raw.write_lspet(tmp_path, 1, lspet)
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg"))
    (tmp_path / "mpii").rename(tmp_path / mpii)
    folders = [name.split("/")[0] for name, _ in raw.splits_of(raw.prepare_people(tmp_path)[0])]
    assert folders == ["LSP", "LSP", "LSPET", "mpii"]


# ---- a published file ----


def test_a_published_file_is_taken_in_place_of_raw_annotations(tmp_path):
    raw.write_lsp(tmp_path)
    raw.write_images(tmp_path / "mpii", ["full.jpg", "t.jpg"])
    lsp = [("LSP/images/im0001.jpg", 1), ("LSP/images/im0005.jpg", 0), ("LSP/images/gone.jpg", 1)]
    mpii = [("mpii/images/full.jpg", 1), ("mpii/images/t.jpg", 2), ("mpii/images/full.jpg", -1)]
    path = raw.write_published(tmp_path, lsp + mpii)
    people, summary = raw.prepare_people(tmp_path, mpii_held_out=0.0)
    # Code 0 is LSP's test set, 2 is MPII's: the original loader had them the wrong way round.
    assert people.split_N.tolist() == ["train", "test", "train", "unused", "unused"]
    assert summary.left_out == {("lsp train", "image missing"): 1}
    with h5py.File(path) as published, h5py.File(people.path) as prepared:
        for name in ("imgname", "center", "scale", "part", "visible", "istrain"):
            np.testing.assert_array_equal(prepared[name][:], published[name][:][[0, 1, 3, 5, 4]])


def test_a_published_file_gets_head_sizes_and_split_from_what_lies_beside_it(tmp_path):
    raw.write_mpii_mat(tmp_path)
    raw.write_mpii_json(tmp_path, *LISTED, images=False)
    rows = [("mpii/images/full.jpg", 1), *[("mpii/images/two.jpg", 1)] * 3]
    raw.write_published(tmp_path, rows, center=np.array([[60.0, 50], [70, 55], [60, 50], [10, 10]]))
    people, _ = raw.prepare_people(tmp_path)
    assert people.split_N.tolist() == ["train", "validation", "unused", "unused"]
    np.testing.assert_allclose(people.head_size_N, [30, np.nan, 30, np.nan])


# ---- their images ----


def dot(xy: tuple[float, float], width: int, height: int, sigma: float) -> np.ndarray:
    """A soft white dot on black at a place between pixels, zero-based, pixel centres at whole numbers."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    value = 255 * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(value).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image_HW3: np.ndarray) -> np.ndarray:
    weight = np.clip(image_HW3.astype(float).mean(axis=2) - 20, 0, None)
    y, x = np.indices(weight.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize(
    ("side", "kept"),
    [(90.0, False), (97.3, False), (200.0, False), (331.7, False), (150.0, True)],
    ids=["cropped", "hardly shrunk", "shrunk", "shrunk a lot", "kept as it came"],
)
def test_a_dot_is_found_where_the_affine_says(side, kept):
    place = (83.4, 71.8)
    image = dot(place, *((150, 140) if kept else (400, 300)), sigma=max(3.0, side / 40))
    file = encode_jpeg(image, 95)
    data, affine = pack_surroundings(file, image, np.array([90.3, 66.1]), side, raw.PREPARE)
    found = decode_image(data, "packed")
    assert (data == file) == kept
    assert kept or max(found.shape) <= raw.PREPARE.pack_size + 2  # sides are rounded outwards
    np.testing.assert_allclose(centroid(found), transform(affine, np.array(place)), atol=0.05)


def test_a_person_at_the_border_is_packed_up_to_the_border():
    image = noise(3, 300, 200)
    data, affine = pack_surroundings(b"", image, np.array([5.0, 195.0]), 80.0, raw.PREPARE)
    assert decode_image(data, "packed").shape == (45, 46, 3)
    np.testing.assert_allclose(affine, [[1, 0, 0], [0, 1, -155]])
    assert pack_surroundings(b"", image, np.array([-200.0, 50.0]), 80.0, raw.PREPARE) is None


def test_crops_of_mpii_lie_lower_so_that_the_feet_are_in(tmp_path):
    raw.write_mpii_json(tmp_path, raw.listed_person("a.jpg", objpos=[401, 401], scale_provided=0.5))
    cv2.imwrite(str(tmp_path / "mpii" / "images" / "a.jpg"), noise(1, 900, 900))
    image, affine = raw.prepare_people(tmp_path)[0].image(0)
    middle = transform(affine, np.array([400, 400 + FEET_SHIFT * 0.5]))
    np.testing.assert_allclose(middle, (np.array(image.shape[1::-1]) - 1) / 2, atol=0.6)


def test_people_without_a_usable_image_are_left_out_and_counted(tmp_path):
    raw.write_lspet(tmp_path)
    raw.write_images(tmp_path / "mpii", ["a.jpg"])
    images = tmp_path / "LSPET" / "images"
    (images / "im00002.jpg").unlink()
    (images / "im00003.jpg").write_bytes((images / "im00003.jpg").read_bytes()[:-300])
    (images / "im00004.jpg").write_text("no image")
    people, summary = raw.prepare_people(tmp_path, lspet_held_out=0.0)
    assert [int(Path(name).stem[2:]) for name, _ in raw.splits_of(people)] == [1, 5, 6, 7, 8]
    assert "lspet train              8         5   image missing 1, image unreadable 2" in str(summary)
    assert "im00003.jpg: truncated JPEG" in str(summary)
    assert "nor mpii_annotations.json.gz, not used" in str(summary)


def test_the_same_input_gives_the_same_bytes_whatever_the_number_of_threads(tmp_path):
    raw.write_lsp(tmp_path)
    raw.write_lspet(tmp_path, 30)
    raw.write_mpii_mat(tmp_path)
    files = {raw.prepare_people(tmp_path, workers=workers)[0].path.read_bytes() for workers in (1, 4, None)}
    assert len(files) == 1


# ---- what cannot be used ----


def cut(path: Path) -> int:
    return path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


UNUSABLE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing at all": (
        lambda root: None,
        r"data\.root .*: no LSP, LSPET, mpii folder with annotations and no lsp_mpii\.h5, expected",
    ),
    "LSP cut short": (
        lambda root: (raw.write_lsp(root), cut(root / "LSP" / "joints.mat")),
        r"joints\.mat: cannot be read as a MATLAB file",
    ),
    "no image at all": (
        lambda root: (raw.write_lsp(root, 4), shutil.rmtree(root / "LSP" / "images")),
        r"none of 4 annotated people can be used \(image missing 4\), first image LSP/images/im0001\.jpg",
    ),
}


@pytest.mark.parametrize(("damage", "message"), UNUSABLE.values(), ids=UNUSABLE)
def test_what_cannot_be_used_is_named_in_one_line_and_leaves_the_former_file_alone(tmp_path, damage, message):
    former = tmp_path / "prepared" / "lsp_mpii.h5"
    former.parent.mkdir()
    former.write_text("former")
    former.with_name(".999999999.pose-lsp_mpii.h5").touch()  # of a process that was killed
    damage(tmp_path)
    with user_error(message):
        raw.prepare_people(tmp_path)
    assert list(former.parent.iterdir()) == [former]
    assert former.read_text() == "former"


@pytest.mark.slow
def test_the_real_lists_are_counted_in_full_and_kept_where_an_image_is_present(tmp_path, real_data):
    (tmp_path / "mpii").symlink_to((real_data / "mpii").resolve())
    (tmp_path / "lspet" / "images").mkdir(parents=True)
    for name in ["joints.mat", *(f"images/im{number:05d}.jpg" for number in range(1, 41))]:
        (tmp_path / "lspet" / name).symlink_to((real_data / "lspet" / name).resolve())
    people, summary = raw.prepare_people(tmp_path, lspet_held_out=0.1)
    annotated = {row: count for (row, column), count in summary.counts.items() if column == "annotated"}
    assert (annotated["mpii train"], annotated["mpii validation"]) == (22246, 2958)
    assert annotated["lspet train"] + annotated["lspet validation"] == 10000
    num_mpii = int((people.source_N == "mpii").sum())
    assert num_mpii >= len(list((real_data / "mpii" / "images").iterdir()))
    missing = sum(summary.left_out[f"mpii {split}", "image missing"] for split in ("train", "validation"))
    assert missing == 25204 - num_mpii
    assert int((people.source_N == "lspet").sum()) == 40
    for row in range(len(people)):  # nearly all joints lie in the packed image
        image, affine = people.image(row)
        place = transform(affine, people.joint_NK2[row][people.labelled_NK[row]])
        assert ((place > -0.5) & (place < np.array(image.shape[1::-1]) - 0.5)).all(axis=1).mean() > 0.8


def test_lsp_alone_can_hold_some_out_to_validate_on(tmp_path):
    raw.write_lsp(tmp_path, num_people=12)
    people, _ = raw.prepare_people(tmp_path, lsp_held_out=0.5)
    splits = people.split_N.tolist()
    assert splits[6:] == ["test"] * 6
    assert set(splits[:6]) == {"train", "validation"}
