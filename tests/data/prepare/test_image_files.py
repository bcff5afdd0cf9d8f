"""Which file an annotated image is, and how it is turned."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import annotation_file_content, coco_params, image_entry, person_entry, prepare_images
from helpers import SIZE, noise, user_error
from raw_sets import rewrite_train, with_orientation, write_two_splits

from pose.data.image_set import ImageSet
from pose.data.prepare.packing import AHEAD, in_threads
from pose.io.images import encode_jpeg

# ---- names of images ----


def prepared_names(root: Path, *written: str, files: tuple[str, ...]) -> tuple[list[str], str]:
    """Names of the training images that are found under `files` of train2017, and the summary."""
    write_two_splits(root)
    for name in files:
        path = root / "coco" / "train2017" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_jpeg(noise(len(name)), 90))
    images = [image_entry(number, name) for number, name in enumerate(written, start=10)]
    people = [person_entry(number, number) for number in range(10, 10 + len(written))]
    content = annotation_file_content([image_entry(1), *images], [person_entry(1, 1), *people])
    rewrite_train(root, content)
    found, summary = prepare_images(root)
    return [found.name(row).removeprefix("train2017/") for row in found.rows("train")][1:], str(summary)


@pytest.mark.parametrize(
    ("written", "file"),
    [
        ("images\\a.jpg", "images/a.jpg"),
        ("images\\a.jpg", "a.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("a%20b.jpg", "a%20b.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "0a1b2c3d-a.jpg"),
        ("/data/upload/1/0a1b2c3d-a.jpg", "a.jpg"),
        ("/data/local-files/?d=set/a.jpg", "set/a.jpg"),
        ("C:\\Users\\me\\set\\a.jpg", "set/a.jpg"),
        ("https://host/a/b.jpg", "a/b.jpg"),
        ("../../b.jpg", "b.jpg"),
        ("M\u00fcller.jpg", "Mu\u0308ller.jpg"),  # as macOS has written it to a disk
        ("photos/Mu\u0308ller.jpg", "M\u00fcller.jpg"),
        ("3.45.12\u202fPM.jpg", "3.45.12\u202fPM.jpg"),  # a screenshot of macOS
    ],
)
def test_a_name_of_another_machine_means_the_file_that_is_there(tmp_path, written, file):
    found, text = prepared_names(tmp_path, written, files=(file,))
    assert found == [file]
    assert ("file_name means a file of another name: 1" in text) == (written != file)


def test_a_name_may_begin_with_the_folder(tmp_path):
    found, text = prepared_names(tmp_path, "train2017/c.jpg", files=("c.jpg",))
    assert found == ["c.jpg"]
    assert "another name" not in text


def test_a_file_that_two_names_may_mean_is_nobodys(tmp_path):
    found, text = prepared_names(tmp_path, "x/a.jpg", "y/a.jpg", "b.jpg", "z/b.jpg", files=("a.jpg", "b.jpg"))
    assert found == ["b.jpg"]  # as it is written
    assert "image missing 3" in text
    assert "train: the first image missing: 'x/a.jpg' could be " in text


def test_the_first_missing_image_is_named_with_where_it_was_looked_for(tmp_path):
    _, text = prepared_names(tmp_path, "photos/none.jpg", "no.jpg", files=())
    folders = f"{tmp_path}/coco/train2017, {tmp_path}/coco"
    assert f"the first image missing: 'photos/none.jpg' is in none of the folders {folders}\n" in f"{text}\n"
    assert "image missing 2" in text


def test_a_split_whose_images_are_missing_names_the_first(tmp_path):
    write_two_splits(tmp_path)
    (tmp_path / "coco" / "val2017" / "000000000003.jpg").unlink()
    found = r"none of 1 validation images can be used \(image missing 1\); .*: the first image missing"
    with user_error(f"{found}: '000000000003.jpg' is in none of the folders .*val2017"):
        prepare_images(tmp_path)


def test_a_name_that_no_file_system_takes_is_of_no_file(tmp_path):
    _, text = prepared_names(tmp_path, "/".join("a" * 2000), "\u00e4" * 199, files=())
    assert "image missing 2" in text


@pytest.mark.parametrize("name", [None, 7, "", "a\nb.jpg", "..", "a" * 5000])
def test_what_is_no_name_is_refused(tmp_path, name):
    content = write_two_splits(tmp_path)
    content["images"][0]["file_name"] = name
    rewrite_train(tmp_path, content)
    with user_error(r"train2017.json: image 1: file_name .* is not usable, expected a rel"):
        prepare_images(tmp_path)


def test_no_name_leads_out_of_the_folder(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(encode_jpeg(noise(1), 90))
    outside = [f"{tmp_path}/secret.jpg", "../../secret.jpg", "..\\..\\secret.jpg", "%2e%2e/%2e%2e/secret.jpg"]
    assert prepared_names(tmp_path, *outside, files=())[0] == []


# ---- orientation ----


def turned(root: Path, size: tuple[int, int], orientation: int, **params: Any) -> tuple[ImageSet, str]:
    """Image 1, stored as 80 x 60 px with this orientation and annotated with `size`; prepared."""
    content = write_two_splits(root)
    content["images"][0] |= {"width": size[0], "height": size[1]}
    content["annotations"][0]["segmentation"] = []
    rewrite_train(root, content)
    data = encode_jpeg(noise(1), 90)
    (root / "coco" / "train2017" / "000000000001.jpg").write_bytes(with_orientation(data, orientation))
    images, summary = prepare_images(root, coco_params(**params))
    return images, str(summary)


def upright_px(quarters: int) -> np.ndarray:
    """The pixels of image 1, turned clockwise."""
    return np.rot90(noise(1).astype(int), -quarters)


def assert_shows(images: ImageSet, expected_HW3: np.ndarray) -> None:
    image_HW3, _ = images.image(0)
    assert image_HW3.shape == expected_HW3.shape
    assert np.abs(image_HW3.astype(int) - expected_HW3).mean() < 8


@pytest.mark.parametrize("exif", ["stored", "upright"])
@pytest.mark.parametrize("size", [SIZE, SIZE[::-1]])
def test_an_image_is_turned_if_only_so_it_has_the_annotated_size(tmp_path, size, exif):
    images, text = turned(tmp_path, size, 6, exif=exif)
    assert_shows(images, upright_px(quarters=int(size != SIZE)))
    note = "images turned upright, since only so they have the annotated size: 1 (first: 000000000001.jpg)"
    assert (note in text) == (size != SIZE)


@pytest.mark.parametrize(("exif", "quarters"), [("stored", 0), ("upright", 2)])
def test_where_both_sizes_fit_the_parameter_decides(tmp_path, exif, quarters):
    images, text = turned(tmp_path, SIZE, 3, exif=exif)
    assert_shows(images, upright_px(quarters))
    assert f"images have the annotated size either way, read as prepare.coco.exif says: {exif}: 1" in text


@pytest.mark.parametrize(("exif", "quarters"), [("stored", 0), ("upright", 1)])
def test_a_missing_size_is_that_of_the_image_as_it_is_read(tmp_path, exif, quarters):
    images, text = turned(tmp_path, (0, 0), 6, exif=exif)
    assert_shows(images, upright_px(quarters))
    assert "width and height missing, read from the image: 1" in text
    note = (
        f"of these with an EXIF orientation, read as prepare.coco.exif says: {exif}: 1 (first: 000000000001"
    )
    assert note in text


def test_a_missing_size_of_an_image_that_is_not_turned_needs_no_choice(tmp_path):
    assert "EXIF" not in turned(tmp_path, (0, 0), 1)[1]


# ---- packing ----


def test_no_more_images_are_read_ahead_than_can_wait_and_all_stay_in_order():
    started: list[int] = []
    with in_threads(lambda job: started.append(job) or job, range(3 * AHEAD), "trying", 2) as results:
        assert next(results) == 0
        assert len(started) <= AHEAD + 1
        assert [*results] == list(range(1, 3 * AHEAD))
    assert sorted(started) == list(range(3 * AHEAD))
