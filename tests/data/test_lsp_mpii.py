"""From the raw sets, with their quirks, to the prepared person file and back."""

from __future__ import annotations

import gzip
import hashlib
import json
import multiprocessing
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from helpers import ROOT

from pose.data.formats.lsp import read_lsp, read_lspet
from pose.data.formats.mpii import read_mpii_json, read_mpii_mat
from pose.data.person_set import FEET_SHIFT, PersonSet, read_published
from pose.data.prepare.lsp_mpii import LspMpiiSummary, chosen, pack, prepare_lsp_mpii
from pose.io.errors import UserError
from pose.io.images import decode_image, encode_jpeg
from pose.keypoints.geometry import transform
from pose.keypoints.skeleton import LSP_TO_MPII
from pose.params import PrepareParams, load_params

PARAMS = load_params(ROOT / "params.yaml").prepare.model_copy(
    update={"lspet_held_out": 0.5, "mpii_held_out": 0.5, "pack_size": 96, "jpeg_quality": 95}
)
EMPTY = np.zeros((0, 0))  # MATLAB's []
NOT_MPII = [6, 7]  # pelvis and thorax, which LSP lacks


# ---- making raw sets ----


def struct(*elements: dict[str, Any]) -> np.ndarray:
    """A MATLAB structure array (1, n): the same fields in every element."""
    array = np.empty((1, len(elements)), dtype=[(name, object) for name in elements[0]])
    for index, element in enumerate(elements):
        array[0, index] = tuple(element.values())
    return array


def noise(seed: int, width: int = 120, height: int = 100) -> np.ndarray:
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    return cv2.resize(small, (width, height))


def write_images(folder: Path, names: list[str]) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / "images" / name).write_bytes(encode_jpeg(noise(seed), 90))


def joints_in_image(num_people: int) -> np.ndarray:
    """(N, 14, 3): x, y inside a 120 x 100 image, and 1."""
    rng = np.random.default_rng(num_people)
    return np.concatenate([rng.uniform(20, 80, (num_people, 14, 2)), np.ones((num_people, 14, 1))], axis=2)


def write_lsp(root: Path, num_people: int = 6, folder: str = "LSP") -> np.ndarray:
    joint_NK3 = joints_in_image(num_people)
    joint_NK3[..., 2] = 0
    joint_NK3[0, 3, 2] = 1  # occluded
    write_images(root / folder, [f"im{number:04d}.jpg" for number in range(1, num_people + 1)])
    scipy.io.savemat(root / folder / "joints.mat", {"joints": joint_NK3.transpose(2, 1, 0)})
    return joint_NK3


def write_lspet(root: Path, num_people: int = 8, folder: str = "LSPET") -> np.ndarray:
    joint_NK3 = joints_in_image(num_people)
    joint_NK3[0, 3] = (-45.3, 170.0, 0)  # not annotated: the numbers mean nothing
    write_images(root / folder, [f"im{number:05d}.jpg" for number in range(1, num_people + 1)])
    scipy.io.savemat(root / folder / "joints.mat", {"joints": joint_NK3.transpose(1, 2, 0)})
    return joint_NK3


def point(joint: int, x: float, y: float, **fields: Any) -> dict[str, Any]:
    return {"x": x, "y": y, "id": joint, **fields}


def mpii_images() -> list[tuple[str, bool, np.ndarray]]:
    """(name, is for training, annorect) of images that together have the quirks of the real file."""
    place = {"scale": 0.3, "objpos": struct({"x": 60.0, "y": 50.0})}
    head = {"x1": 10.0, "y1": 20.0, "x2": 40.0, "y2": 60.0}
    sixteen = struct(
        *[
            point(joint, 30.0 + joint, 40.5 + joint, is_visible=EMPTY if joint in (8, 9) else joint % 2)
            for joint in range(16)
        ]
    )
    few = struct(
        point(9, 31, 32, is_visible="1"),
        point(0, 33.5, 34, is_visible="0"),
        point(12, -3.0, 34, is_visible=1),
    )
    no_flag = struct(point(4, 51, 52))
    other_place = {"scale": 0.4, "objpos": struct({"x": 70.0, "y": 55.0})}
    return [
        ("full.jpg", True, struct({**head, **place, "annopoints": struct({"point": sixteen})})),
        ("nobody.jpg", True, EMPTY),
        (
            "two.jpg",
            True,
            struct(
                {**head, **place, "annopoints": struct({"point": few})},
                {**dict.fromkeys(head, EMPTY), **other_place, "annopoints": struct({"point": no_flag})},
            ),
        ),
        ("heads_only.jpg", True, struct(head)),
        ("no_points.jpg", True, struct({**head, **place, "annopoints": EMPTY})),
        (
            "empty_place.jpg",
            True,
            struct({**head, "scale": EMPTY, "objpos": EMPTY, "annopoints": struct({"point": few})}),
        ),
        ("test.jpg", False, struct(place)),
        ("test_without_place.jpg", False, struct({"x1": 1, "y1": 1, "x2": 2, "y2": 2})),
    ]


def write_mat(root: Path, images: list[tuple[str, bool, np.ndarray]] | None = None) -> Path:
    images = mpii_images() if images is None else images
    annolist = struct(
        *[
            {"image": struct({"name": name}), "annorect": people, "vididx": EMPTY}
            for name, _, people in images
        ]
    )
    release = struct(
        {
            "annolist": annolist,
            "img_train": np.array([[train for _, train, _ in images]], dtype=float),
            "version": "12",
        }
    )
    write_images(root / "mpii", [name for name, _, _ in images])
    path = root / "mpii" / "mpii_human_pose_v1_u12_1.mat"
    scipy.io.savemat(path, {"RELEASE": release})
    return path


def peer(
    name: str, people_index: int, *, validation: bool, objpos: tuple[float, float] = (60.0, 50.0)
) -> dict[str, Any]:
    joints = [[30.0 + joint, 40.0 + joint, joint % 2] for joint in range(15)] + [[0, 0, 0]]
    return {
        "img_paths": name,
        "objpos": list(objpos),
        "joint_self": joints,
        "scale_provided": 0.3,
        "isValidation": float(validation),
        "annolist_index": 1.0,
        "people_index": float(people_index),
    }


def write_json(root: Path, people: list[dict[str, Any]], name: str = "mpii_annotations.json") -> Path:
    path = root / "mpii" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(people).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    return path


def write_published(root: Path, rows: list[tuple[str, int]], **replaced: np.ndarray | None) -> Path:
    """A published file with a row for each (image name, istrain code)."""
    num_people = len(rows)
    codes = np.zeros((num_people, 50))
    for row, (name, _) in enumerate(rows):
        codes[row, : len(name)] = [ord(letter) for letter in name]
    columns: dict[str, np.ndarray | None] = {
        "imgname": codes,
        "center": np.tile([60.0, 50.0], (num_people, 1)),
        "scale": np.full(num_people, 0.3),
        "part": np.random.default_rng(0).uniform(20, 80, (num_people, 16, 2)),
        "visible": np.ones((num_people, 16)),
        "istrain": np.array([code for _, code in rows], dtype=float),
        **replaced,
    }
    path = root / "lsp_mpii.h5"
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    return path


def prepare(root: Path, params: PrepareParams = PARAMS, **options: Any) -> tuple[PersonSet, LspMpiiSummary]:
    path = root / "prepared" / "lsp_mpii.h5"
    summary = prepare_lsp_mpii(root, path, params=params, seed=1, **options)
    return PersonSet(path), summary


def names(people: PersonSet) -> list[str]:
    return [people.name(row) for row in range(len(people))]


# ---- LSP and LSPET ----


def test_lsp_joints_land_in_mpii_order_and_its_flag_means_occluded(tmp_path: Path) -> None:
    joint_NK3 = write_lsp(tmp_path)
    table = read_lsp(tmp_path / "LSP")
    np.testing.assert_array_equal(table.part_NK2[:, LSP_TO_MPII], joint_NK3[..., :2])
    np.testing.assert_array_equal(table.part_NK2[:, NOT_MPII], 0)
    np.testing.assert_array_equal(table.visible_NK[:, LSP_TO_MPII], 1 - joint_NK3[..., 2])
    assert table.visible_NK[0, 3] == 0  # LSP's joint 3, the left hip, is MPII's
    assert table.labelled_NK.sum(axis=1).tolist() == [14] * 6


def test_the_first_half_of_lsp_trains_and_the_second_is_the_test_set(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    people, _ = prepare(tmp_path)
    assert people.split_N.tolist() == ["train"] * 3 + ["test"] * 3
    assert people.istrain_N.tolist() == [1] * 3 + [0] * 3
    assert people.name(3) == "LSP/images/im0004.jpg"


def test_lspet_joints_that_are_not_annotated_are_absent(tmp_path: Path) -> None:
    joint_NK3 = write_lspet(tmp_path)
    table = read_lspet(tmp_path / "LSPET")
    assert table.part_NK2[0, 3].tolist() == [0, 0]
    assert table.visible_NK[0, 3] == 0
    assert table.labelled_NK.sum() == 8 * 14 - 1
    np.testing.assert_array_equal(table.part_NK2[1:, LSP_TO_MPII], joint_NK3[1:, :, :2])
    assert table.name_N[7] == "LSPET/images/im00008.jpg"


def test_centre_and_scale_of_lsp_people_come_from_the_box_of_their_labelled_joints(tmp_path: Path) -> None:
    joint_NK3 = write_lspet(tmp_path)
    table = read_lspet(tmp_path / "LSPET")
    x, y = np.delete(joint_NK3[0], 3, axis=0)[:, :2].T
    np.testing.assert_allclose(table.centre_N2[0], [(x.min() + x.max()) / 2, (y.min() + y.max()) / 2])
    assert table.scale_N[0] == pytest.approx(1.1 * max(np.ptp(x), np.ptp(y)) / 200)


def test_held_out_people_are_chosen_by_name_whichever_images_are_there(tmp_path: Path) -> None:
    write_lspet(tmp_path, 40)
    people, _ = prepare(tmp_path)
    before = dict(zip(names(people), people.split_N.tolist(), strict=True))
    assert set(before.values()) == {"train", "validation"}
    for number in range(1, 41, 3):
        (tmp_path / "LSPET" / "images" / f"im{number:05d}.jpg").unlink()
    people, _ = prepare(tmp_path)
    assert len(people) == 26
    assert all(
        before[name] == split for name, split in zip(names(people), people.split_N.tolist(), strict=True)
    )


def test_about_the_asked_share_is_held_out_and_another_seed_holds_out_others() -> None:
    name_N = np.array([f"LSPET/images/im{number:05d}.jpg" for number in range(2000)], dtype=object)
    assert chosen(name_N, 0.1, 1).mean() == pytest.approx(0.1, abs=0.03)
    assert (chosen(name_N, 0.5, 1) != chosen(name_N, 0.5, 2)).mean() > 0.4
    assert not chosen(name_N, 0.0, 1).any()
    assert chosen(name_N, 1.0, 1).all()


# ---- MPII ----


def test_the_mpii_mat_is_read_with_all_its_quirks(tmp_path: Path) -> None:
    table = read_mpii_mat(write_mat(tmp_path))
    within = [name.removeprefix("mpii/images/") for name in table.name_N]
    assert within == [
        "full.jpg", "two.jpg", "two.jpg", "heads_only.jpg", "no_points.jpg", "empty_place.jpg", "test.jpg", "test_without_place.jpg",
    ]  # fmt: skip
    assert table.istrain_N.tolist() == [1, 1, 1, -1, -1, -1, 2, 2]
    assert table.person_N.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(table.part_NK2[0], [[30 + joint, 40.5 + joint] for joint in range(16)])
    assert table.visible_NK[0].tolist() == [
        0,
        1,
        0,
        1,
        0,
        1,
        0,
        1,
        1,
        1,
        0,
        1,
        0,
        1,
        0,
        1,
    ]  # neck and head top say nothing: visible
    assert table.part_NK2[1, 9].tolist() == [31, 32]
    assert table.visible_NK[1, [0, 9]].tolist() == [0, 1]  # written as text
    assert np.flatnonzero(table.labelled_NK[1]).tolist() == [0, 9]  # joint 12 lies at a negative x
    assert table.part_NK2[2, 4].tolist() == [51, 52]  # no is_visible at all
    np.testing.assert_allclose(table.head_size_N[:3], [30, 30, np.nan])  # 0.6 * diagonal of 30 x 40
    np.testing.assert_array_equal(table.centre_N2[:3], [[60, 50], [60, 50], [70, 55]])
    assert np.isnan(table.centre_N2[[3, 5, 7]]).all()
    assert np.isnan(table.scale_N[[3, 5, 7]]).all()
    assert (table.part_NK2[6:] == -1).all()  # the test people's joints are the benchmark's secret


def test_incomplete_people_of_the_mat_are_left_out_or_unused(tmp_path: Path) -> None:
    write_mat(tmp_path)
    people, summary = prepare(tmp_path)
    assert summary.left_out == {("mpii", "no scale or objpos"): 3}
    kept = dict(zip(names(people), people.split_N.tolist(), strict=True))
    assert kept["mpii/images/no_points.jpg"] == "unused"
    assert kept["mpii/images/test.jpg"] == "unused"
    assert people.istrain_N.tolist() == [1, 1, 1, -1, 2]
    assert not set(people.rows("unused"))  # nobody there has a joint
    assert "0.5 of the images held out" in str(summary)


def test_without_a_list_whole_mpii_images_are_held_out(tmp_path: Path) -> None:
    full = mpii_images()[2][2]
    write_mat(tmp_path, [(f"{number}.jpg", True, full) for number in range(20)])
    people, summary = prepare(tmp_path)
    assert set(people.split_N.tolist()) == {"train", "validation"}
    np.testing.assert_array_equal(people.split_N[::2], people.split_N[1::2])
    assert summary.kept["mpii", "validation"] == (people.split_N == "validation").sum()


@pytest.mark.parametrize("name", ["mpii_annotations.json", "mpii_annotations.json.gz"])
def test_the_peers_list_alone_gives_people_and_their_split(tmp_path: Path, name: str) -> None:
    write_json(
        tmp_path,
        [
            peer("a.jpg", 1, validation=False),
            peer("b.jpg", 2, validation=True),
            peer("gone.jpg", 1, validation=True),
        ],
        name,
    )
    write_images(tmp_path / "mpii", ["a.jpg", "b.jpg"])
    people, summary = prepare(tmp_path)
    assert people.split_N.tolist() == ["train", "validation"]
    assert people.istrain_N.tolist() == [1, 1]
    assert people.person_N.tolist() == [0, 1]
    assert people.labelled_NK.sum(axis=1).tolist() == [15, 15]
    assert np.isnan(people.head_size_N).all()
    assert summary.annotated["mpii", "validation"] == 2
    assert summary.kept["mpii", "validation"] == 1
    assert summary.left_out == {("mpii", "image missing"): 1}


def test_beside_the_mat_the_list_decides_the_split_and_the_mat_the_rest(tmp_path: Path) -> None:
    write_mat(tmp_path)
    write_json(
        tmp_path,
        [peer("full.jpg", 1, validation=False), peer("two.jpg", 2, validation=True, objpos=(70, 55))],
    )
    people, summary = prepare(tmp_path)
    # The first person of two.jpg is not in the list: they must not train on an image that validates.
    assert people.split_N.tolist() == ["train", "unused", "validation", "unused", "unused"]
    np.testing.assert_allclose(people.head_size_N[:2], 30)
    assert people.joint_NK2[0, 0].tolist() == [29, 39.5]
    assert "1 people with joints are not in mpii_annotations.json" in str(summary)


def test_mpii_is_made_zero_based_once_and_lsp_not_at_all(tmp_path: Path) -> None:
    joint_NK3 = write_lsp(tmp_path)
    write_json(tmp_path, [peer("a.jpg", 1, validation=False)])
    write_images(tmp_path / "mpii", ["a.jpg"])
    people, _ = prepare(tmp_path)
    np.testing.assert_array_equal(people.joint_NK2[0, LSP_TO_MPII], joint_NK3[0, :, :2])
    assert people.source_N[6] == "mpii"
    np.testing.assert_array_equal(people.joint_NK2[6, 3], [32, 42])
    np.testing.assert_array_equal(people.centre_N2[6], [59, 49])
    assert np.isnan(people.joint_NK2[6, 15]).all()
    with h5py.File(people.path) as file:  # as published: one-based
        assert file["part"][6, 3].tolist() == [33, 43]
        assert file["center"][6].tolist() == [60, 50]


# ---- packed pictures ----


def blob(xy: tuple[float, float], width: int, height: int, sigma: float = 3.0) -> np.ndarray:
    """A soft white dot on black at a place between pixels, zero-based, pixel centres at whole numbers."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    value = 255 * np.exp(-((x - xy[0]) ** 2 + (y - xy[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(value).astype(np.uint8)[..., None], 3, axis=2)


def centroid(image_HW3: np.ndarray) -> np.ndarray:
    weight = np.clip(image_HW3.astype(float).mean(axis=2) - 20, 0, None)
    y, x = np.indices(weight.shape)
    middle: np.ndarray = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    return middle


@pytest.mark.parametrize(
    ("side", "kept_whole"),
    [(90.0, False), (97.3, False), (200.0, False), (331.7, False), (150.0, True)],
    ids=["cropped", "hardly shrunk", "shrunk", "shrunk a lot", "kept as it came"],
)
def test_a_dot_is_found_where_the_affine_says(side: float, kept_whole: bool) -> None:
    width, height = (150, 140) if kept_whole else (400, 300)
    dot = (83.4, 71.8)
    image = blob(dot, width, height, sigma=max(3.0, side / 40))
    packed = pack(encode_jpeg(image, 95), image, np.array([90.3, 66.1]), side, PARAMS)
    assert packed is not None
    data, affine = packed
    picture = decode_image(data, "packed")
    assert (picture.shape[:2] == image.shape[:2]) == kept_whole
    assert kept_whole or max(picture.shape[:2]) <= PARAMS.pack_size + 2  # sides are rounded outwards
    np.testing.assert_allclose(centroid(picture), transform(affine, np.array(dot)), atol=0.05)


def test_a_picture_that_little_could_be_saved_of_is_not_compressed_again() -> None:
    data = encode_jpeg(noise(0, 120, 100), 80)
    packed = pack(data, noise(0, 120, 100), np.array([60.0, 50.0]), 110.0, PARAMS)
    assert packed is not None
    assert packed[0] == data


def test_a_person_at_the_border_is_packed_as_far_as_the_image_reaches() -> None:
    image = noise(3, 300, 200)
    packed = pack(b"", image, np.array([5.0, 195.0]), 80.0, PARAMS)
    assert packed is not None
    picture = decode_image(packed[0], "packed")
    assert picture.shape == (45, 46, 3)
    np.testing.assert_allclose(packed[1], [[1, 0, 0], [0, 1, -155]])
    assert pack(b"", image, np.array([-200.0, 50.0]), 80.0, PARAMS) is None


def test_crops_of_mpii_lie_lower_so_that_the_feet_are_in(tmp_path: Path) -> None:
    (tmp_path / "mpii" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "mpii" / "images" / "a.jpg"), noise(1, 900, 900))
    write_json(tmp_path, [{**peer("a.jpg", 1, validation=False, objpos=(401, 401)), "scale_provided": 0.5}])
    people, _ = prepare(tmp_path)
    picture, affine = people.image(0)
    middle = transform(affine, np.array([400, 400 + FEET_SHIFT * 0.5]))
    np.testing.assert_allclose(middle, (np.array(picture.shape[1::-1]) - 1) / 2, atol=0.6)


def test_the_reader_gives_the_pixels_of_the_image(tmp_path: Path) -> None:
    write_lspet(tmp_path, 3)
    people, _ = prepare(tmp_path)
    for row in range(3):
        picture, affine = people.image(row)
        stored = noise(row)
        inside = np.array([[50.0, 40.0], [60.0, 55.0], [45.0, 60.0]])
        for xy, xy_packed in zip(
            inside.astype(int), np.rint(transform(affine, inside)).astype(int), strict=True
        ):
            difference = picture[xy_packed[1], xy_packed[0]].astype(int) - stored[xy[1], xy[0]]
            assert (
                np.abs(difference).max() < 40
            )  # red and blue exchanged would be far off in most of the nine
    assert people.image_size_N2.tolist() == [[120, 100]] * 3


# ---- the file as a whole ----


def test_the_same_input_gives_the_same_bytes_whatever_the_number_of_threads(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    write_lspet(tmp_path, 30)
    write_mat(tmp_path)
    hashes = set()
    for workers in (1, 4, None):
        people, _ = prepare(tmp_path, workers=workers)
        hashes.add(hashlib.sha256(people.path.read_bytes()).hexdigest())
    assert len(hashes) == 1


def test_people_without_a_usable_image_are_left_out_and_counted(tmp_path: Path) -> None:
    write_lspet(tmp_path)
    images = tmp_path / "LSPET" / "images"
    (images / "im00002.jpg").unlink()
    (images / "im00003.jpg").write_bytes((images / "im00003.jpg").read_bytes()[:-300])
    (images / "im00004.jpg").write_text("no picture")
    people, summary = prepare(tmp_path)
    assert names(people) == [f"LSPET/images/im{number:05d}.jpg" for number in (1, 5, 6, 7, 8)]
    assert summary.left_out == {("lspet", "image missing"): 1, ("lspet", "image unreadable"): 2}
    text = str(summary)
    assert "image missing 1, image unreadable 2" in text
    assert "im00003.jpg: truncated JPEG" in text
    assert sum(summary.annotated.values()) == 8
    assert sum(summary.kept.values()) == 5


def test_people_of_one_image_lie_together_in_the_order_of_first_mention(tmp_path: Path) -> None:
    write_json(
        tmp_path,
        [
            peer(f"{name}.jpg", index, validation=False)
            for name, index in (("b", 1), ("a", 1), ("b", 2), ("a", 2))
        ],
    )
    write_images(tmp_path / "mpii", ["a.jpg", "b.jpg"])
    people, _ = prepare(tmp_path)
    assert [(Path(name).stem, int(person)) for name, person in zip(names(people), people.person_N, strict=True)] == [
        ("b", 0), ("b", 1), ("a", 0), ("a", 1),
    ]  # fmt: skip


@pytest.mark.parametrize(("lsp", "lspet", "mpii"), [("LSP", "LSPET", "mpii"), ("lsp", "lspet", "MPII")])
def test_folders_may_be_spelled_either_way_and_names_are_spelled_one_way(
    tmp_path: Path, lsp: str, lspet: str, mpii: str
) -> None:
    write_lsp(tmp_path, 2, lsp)
    write_lspet(tmp_path, 1, lspet)
    write_json(tmp_path, [peer("a.jpg", 1, validation=False)])
    write_images(tmp_path / "mpii", ["a.jpg"])
    (tmp_path / "mpii").rename(tmp_path / mpii)
    people, _ = prepare(tmp_path)
    assert names(people) == [
        "LSP/images/im0001.jpg",
        "LSP/images/im0002.jpg",
        "LSPET/images/im00001.jpg",
        "mpii/images/a.jpg",
    ]


def test_a_folder_without_annotations_is_said_to_be_unused(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    write_images(tmp_path / "mpii", ["a.jpg"])
    _, summary = prepare(tmp_path)
    assert "mpii_annotations.json" in str(summary)
    assert "not used" in str(summary)


def test_rows_of_a_split_have_joints(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    people, _ = prepare(tmp_path)
    assert people.rows("train").tolist() == [0, 1, 2]
    assert people.rows("test").tolist() == [3, 4, 5]
    assert people.rows("validation").tolist() == []
    with pytest.raises(ValueError, match="no split 'valid'"):
        people.rows("valid")


def test_a_pickled_reader_reads(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    people, _ = prepare(tmp_path)
    picture, _ = people.image(2)
    again: PersonSet = pickle.loads(pickle.dumps(people))
    np.testing.assert_array_equal(again.image(2)[0], picture)
    np.testing.assert_array_equal(again.joint_NK2, people.joint_NK2)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_reader_reads_what_its_parent_reads(tmp_path: Path) -> None:
    write_lspet(tmp_path, 20)
    people, _ = prepare(tmp_path)
    cv2.setNumThreads(1)
    here = [people.image(row)[0].sum() for row in range(20)]
    _inherited[:] = [people]
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.map(_sum_of_picture, list(range(20)) * 5) == here * 5


_inherited: list[PersonSet] = []  # what the forked processes find


def _sum_of_picture(row: int) -> int:
    return int(_inherited[0].image(row)[0].sum())


# ---- a published file ----


def test_a_published_file_is_taken_in_place_of_raw_annotations(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    write_images(tmp_path / "mpii", ["full.jpg", "t.jpg"])
    rows = [
        ("LSP/images/im0001.jpg", 1),
        ("LSP/images/im0005.jpg", 0),
        ("mpii/images/full.jpg", 1),
        ("mpii/images/t.jpg", 2),
    ]
    path = write_published(tmp_path, [*rows, ("mpii/images/full.jpg", -1), ("LSP/images/gone.jpg", 1)])
    people, summary = prepare(tmp_path, PARAMS.model_copy(update={"mpii_held_out": 0.0}))
    # Code 0 is LSP's test set, 2 is MPII's: the original loader had them the wrong way round.
    assert list(zip(names(people), people.split_N.tolist(), strict=True)) == [
        ("LSP/images/im0001.jpg", "train"),
        ("LSP/images/im0005.jpg", "test"),
        ("mpii/images/full.jpg", "train"),
        ("mpii/images/full.jpg", "unused"),
        ("mpii/images/t.jpg", "unused"),
    ]
    assert summary.left_out == {("lsp", "image missing"): 1}
    with h5py.File(path) as published, h5py.File(people.path) as ours:
        order = [0, 1, 2, 4, 3]
        for name in ("imgname", "center", "scale", "part", "visible", "istrain"):
            np.testing.assert_array_equal(ours[name][:], published[name][:][order])


def test_a_published_file_gets_head_sizes_and_split_from_what_lies_beside_it(tmp_path: Path) -> None:
    write_mat(tmp_path)
    write_json(
        tmp_path,
        [peer("full.jpg", 1, validation=False), peer("two.jpg", 2, validation=True, objpos=(70, 55))],
    )
    centre = np.array([[60.0, 50.0], [70.0, 55.0], [60.0, 50.0], [10.0, 10.0]])
    write_published(tmp_path, [("mpii/images/full.jpg", 1), *[("mpii/images/two.jpg", 1)] * 3], center=centre)
    people, _ = prepare(tmp_path)
    assert people.split_N.tolist() == ["train", "validation", "unused", "unused"]
    np.testing.assert_allclose(people.head_size_N, [30, np.nan, 30, np.nan])


def test_the_prepared_file_can_be_read_as_a_published_one(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    write_mat(tmp_path)
    people, _ = prepare(tmp_path)
    table = read_published(people.path)
    assert table.name_N.tolist() == names(people)
    np.testing.assert_array_equal(table.labelled_NK, people.labelled_NK)
    os.replace(people.path, tmp_path / "lsp_mpii.h5")
    with h5py.File(tmp_path / "lsp_mpii.h5") as file:
        part_NK2 = file["part"][:]
    again, _ = prepare(tmp_path)
    with h5py.File(again.path) as file:
        np.testing.assert_array_equal(file["part"][:], part_NK2)


# ---- what cannot be used ----


def set_variable(path: Path, name: str, values: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, {name: values})


def cut(path: Path) -> int:
    return path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def edited(key: str, value: Any) -> Callable[[Path], Any]:
    return lambda root: write_json(root, [{**peer("a.jpg", 1, validation=False), key: value}])


def with_joint_id(root: Path) -> None:
    wrong = struct(
        {
            "scale": 1.0,
            "annopoints": struct({"point": struct(point(16, 1, 1))}),
            "objpos": struct({"x": 1.0, "y": 1.0}),
        }
    )
    write_mat(root, [("a.jpg", True, wrong)])


def with_link(root: Path) -> None:
    path = write_published(root, [("LSP/images/im0001.jpg", 1)])
    with h5py.File(root / "other.h5", "w") as other:
        other["part"] = np.ones((1, 16, 2))
    with h5py.File(path, "a") as file:
        del file["part"]
        file["part"] = h5py.ExternalLink("other.h5", "part")


def with_raw_data_elsewhere(root: Path) -> None:
    path = write_published(root, [("LSP/images/im0001.jpg", 1)], scale=None)
    (root / "secret").write_bytes(b"8 bytes.")
    with h5py.File(path, "a") as file:
        file.create_dataset("scale", (1,), dtype="f8", external=[(str(root / "secret"), 0, 8)])


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "nothing at all": (
        lambda root: None,
        r"data\.root .*: no LSP, LSPET, mpii folder with annotations and no lsp_mpii\.h5, expected",
    ),
    "LSP with LSPET's axes": (
        lambda root: set_variable(root / "LSP" / "joints.mat", "joints", np.ones((14, 3, 5))),
        r"joints\.mat: 'joints' has shape \(14, 3, 5\), expected \(3, 14, N\)",
    ),
    "LSPET with LSP's axes": (
        lambda root: set_variable(root / "LSPET" / "joints.mat", "joints", np.ones((3, 14, 5))),
        r"joints\.mat: 'joints' has shape \(3, 14, 5\), expected \(14, 3, N\)",
    ),
    "joints.mat without joints": (
        lambda root: set_variable(root / "LSP" / "joints.mat", "points", np.ones((3, 14, 5))),
        r"joints\.mat: found points, expected an array 'joints'",
    ),
    "joints.mat of text": (
        lambda root: set_variable(root / "LSP" / "joints.mat", "joints", "abc"),
        r"joints\.mat: 'joints' holds <U3",
    ),
    "joints.mat cut short": (
        lambda root: (write_lsp(root), cut(root / "LSP" / "joints.mat")),
        r"joints\.mat: cannot be read as a MATLAB",
    ),
    "mat cut short": (lambda root: cut(write_mat(root)), r"u12_1\.mat: cannot be read as a MATLAB file"),
    "mat of text": (
        lambda root: write_mat(root).write_text("x" * 500),
        r"u12_1\.mat: cannot be read as a MATLAB file",
    ),
    "empty mat": (
        lambda root: write_mat(root).write_bytes(b""),
        r"u12_1\.mat: cannot be read as a MATLAB file",
    ),
    "mat of something else": (
        lambda root: set_variable(write_mat(root), "x", 1.0),
        r"u12_1\.mat: found x, expected a structure RELEASE",
    ),
    "RELEASE without annolist": (
        lambda root: set_variable(write_mat(root), "RELEASE", struct({"version": "12"})),
        r"u12_1\.mat: RELEASE has version, expected annolist",
    ),
    "a joint id of 16": (with_joint_id, r"image 1, person 1 has joints with ids \[16\], expected 0 to 15"),
    "json that is none": (
        lambda root: write_json(root, []).write_text("{'a'"),
        r"mpii_annotations\.json: not valid JSON",
    ),
    "json of something else": (
        lambda root: write_json(root, []).write_text('{"a": 1}'),
        r"mpii_annotations\.json: found dict, expected a list",
    ),
    "json without objpos": (
        lambda root: write_json(
            root, [{k: v for k, v in peer("a.jpg", 1, validation=False).items() if k != "objpos"}]
        ),
        r"mpii_annotations\.json: person 1 has no 'objpos'",
    ),
    "json with 15 joints": (
        edited("joint_self", [[1, 2, 1]] * 15),
        r"person 1 .* has joint_self of shape \(15, 3\), expected \(16, 3\)",
    ),
    "json with a word for scale": (edited("scale_provided", "big"), r"person 1 is not as expected"),
    "json cut short": (
        lambda root: cut(write_json(root, [peer("a.jpg", 1, validation=False)], "mpii_annotations.json.gz")),
        r"json\.gz: cannot be read, damaged or cut short",
    ),
    "image name that leads out": (
        edited("img_paths", "../../secret.jpg"),
        r"image name 'images/\.\./\.\./secret\.jpg' is not usable",
    ),
    "image name with backslashes": (
        edited("img_paths", "..\\..\\secret.jpg"),
        r"is not usable, expected a relative path",
    ),
    "image name with a line break": (
        edited("img_paths", "a\nb.jpg"),
        r"is not usable, expected a relative path",
    ),
    "image name too long": (
        edited("img_paths", "a" * 40 + ".jpg"),
        r"imgname .* has 56 characters, expected at most 50",
    ),
    "published without part": (
        lambda root: write_published(root, [("LSP/images/im0001.jpg", 1)], part=None),
        r"lsp_mpii\.h5: no dataset 'part', found center, imgname, .*, expected part of shape \(1, 16, 2\)",
    ),
    "published with 14 joints": (
        lambda root: write_published(root, [("LSP/images/im0001.jpg", 1)], part=np.ones((1, 14, 2))),
        r"lsp_mpii\.h5: dataset 'part' has shape \(1, 14, 2\), expected \(1, 16, 2\)",
    ),
    "published with codes of no character": (
        lambda root: write_published(root, [("LSP/images/im0001.jpg", 1)], imgname=np.full((1, 50), -5.0)),
        r"lsp_mpii\.h5: dataset 'imgname' holds something else than character codes",
    ),
    "published of another set": (
        lambda root: write_published(root, [("flic/images/a.jpg", 1)]),
        r"image name 'flic/images/a\.jpg'",
    ),
    "published name that leads out": (
        lambda root: write_published(root, [("LSP/../../etc/a.jpg", 1)]),
        r"is not usable",
    ),
    "published name that is absolute": (
        lambda root: write_published(root, [("LSP//etc/a.jpg", 1)]),
        r"is not usable",
    ),
    "published cut short": (
        lambda root: cut(write_published(root, [("LSP/images/im0001.jpg", 1)])),
        r"lsp_mpii\.h5: cannot be read as HDF5",
    ),
    "published of text": (
        lambda root: (root / "lsp_mpii.h5").write_text("text"),
        r"lsp_mpii\.h5: cannot be read as HDF5",
    ),
    "published with a link to another file": (with_link, r"lsp_mpii\.h5: dataset 'part' is a link"),
    "published with raw data in another file": (
        with_raw_data_elsewhere,
        r"lsp_mpii\.h5: 'scale' is not a dataset within this file",
    ),
    "no image at all": (
        lambda root: set_variable(
            root / "LSP" / "joints.mat", "joints", np.full((3, 14, 4), 9.0) + np.arange(14)[None, :, None]
        ),
        r"none of 4 annotated people can be used \(image missing 4\), first image LSP/images/im0001\.jpg",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_said_in_one_line_and_leaves_no_file(tmp_path: Path, case: str) -> None:
    spoil, message = BAD[case]
    spoil(tmp_path)
    with pytest.raises(UserError, match=message) as caught:
        prepare(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "prepared").glob("*"))


def test_a_failed_run_leaves_the_former_file_alone(tmp_path: Path) -> None:
    write_lsp(tmp_path)
    people, _ = prepare(tmp_path)
    before = people.path.read_bytes()
    for image in (tmp_path / "LSP" / "images").iterdir():
        image.unlink()
    with pytest.raises(UserError):
        prepare(tmp_path)
    assert [file.name for file in people.path.parent.iterdir()] == ["lsp_mpii.h5"]
    assert people.path.read_bytes() == before


@pytest.mark.parametrize("dataset", ["part", "packed", "split", "head_size"])
def test_the_reader_names_a_dataset_that_is_missing_or_of_another_shape(tmp_path: Path, dataset: str) -> None:
    write_lsp(tmp_path)
    people, _ = prepare(tmp_path)
    with h5py.File(people.path, "a") as file:
        del file[dataset]
    with pytest.raises(UserError, match=f"lsp_mpii.h5: no dataset '{dataset}'"):
        PersonSet(people.path)
    with h5py.File(people.path, "a") as file:
        file[dataset] = np.zeros((2, 3), dtype=np.uint8)
    with pytest.raises(UserError, match=rf"dataset '{dataset}' has shape \(2, 3\)"):
        PersonSet(people.path)


def test_the_reader_names_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere\.h5: no such file"):
        PersonSet(tmp_path / "nowhere.h5")


def test_the_stage_ends_with_one_line_and_a_status(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "stages.prepare_lsp_mpii"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    failed = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: data.root data/synthetic: no LSP, LSPET, mpii folder")
    assert failed.stderr.count("\n") == 1
    assert not (tmp_path / "data" / "prepared" / "lsp_mpii.h5").exists()
    write_lsp(tmp_path / "data" / "synthetic")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "lsp   kept            6          3          0          3" in done.stdout
    assert len(PersonSet(tmp_path / "data" / "prepared" / "lsp_mpii.h5")) == 6


# ---- real data ----


@pytest.mark.slow
def test_the_real_lists_are_counted_whole_and_kept_where_there_is_an_image(
    tmp_path: Path, real_data: Path
) -> None:
    (tmp_path / "mpii").symlink_to((real_data / "mpii").resolve())
    (tmp_path / "lspet" / "images").mkdir(parents=True)
    (tmp_path / "lspet" / "joints.mat").symlink_to((real_data / "lspet" / "joints.mat").resolve())
    for number in range(1, 41):
        name = f"im{number:05d}.jpg"
        (tmp_path / "lspet" / "images" / name).symlink_to((real_data / "lspet" / "images" / name).resolve())
    people, summary = prepare(tmp_path, PARAMS.model_copy(update={"lspet_held_out": 0.1}))
    assert summary.annotated["mpii", "train"] == 22246
    assert summary.annotated["mpii", "validation"] == 2958
    num_images = len(list((real_data / "mpii" / "images").iterdir()))
    num_mpii = int((people.source_N == "mpii").sum())
    assert num_mpii >= num_images
    assert summary.left_out["mpii", "image missing"] == 25204 - num_mpii
    assert sum(summary.annotated["lspet", split] for split in ("train", "validation")) == 10000
    assert int((people.source_N == "lspet").sum()) == 40
    for row in range(len(people)):  # nearly all joints lie in the packed picture
        picture, affine = people.image(row)
        place = transform(affine, people.joint_NK2[row][people.labelled_NK[row]])
        assert ((place > -0.5) & (place < np.array(picture.shape[1::-1]) - 0.5)).all(axis=1).mean() > 0.8


def test_the_real_lsp_lists_have_their_known_shares_of_flags(real_data: Path) -> None:
    lsp, lspet = read_lsp(real_data / "lsp"), read_lspet(real_data / "lspet")
    assert lsp.labelled_NK[:, LSP_TO_MPII].all()
    assert lsp.visible_NK[:, LSP_TO_MPII].mean() == pytest.approx(0.927)
    assert lspet.labelled_NK[:, LSP_TO_MPII].mean() == pytest.approx(0.88, abs=0.002)


def test_a_list_of_the_json_says_who_validates(tmp_path: Path) -> None:
    _, validation_N = read_mpii_json(
        write_json(tmp_path, [peer("a.jpg", 1, validation=True), peer("a.jpg", 2, validation=False)])
    )
    assert validation_N.tolist() == [True, False]
