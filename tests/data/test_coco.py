"""From COCO as it comes, with its quirks and with mistakes in it, to the prepared folder and back."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers import (
    SIZE,
    annotation_file_content,
    coco_params,
    crowd_entry,
    image_entry,
    noise,
    person_entry,
    prepare_images,
    write_annotations,
)

from pose.data.formats.coco_json import read_annotations, read_valid_ids, region
from pose.data.image_set import ImageSet
from pose.data.rle import region_of, runs_of
from pose.io.errors import UserError
from pose.io.images import decode_image
from pose.params import SplitCounts

# ---- making a raw set ----


def write_coco(root: Path, year: str = "2017", prefix: str = "") -> None:
    """Train: 1 with two people, 2 with a crowd and one without joints, 3 with nobody, 4.

    Validation: 11, 12.
    """
    ids = {"train": (1, 2, 3, 4), "val": (11, 12)}
    people = {
        "train": [
            person_entry(101, 1),
            person_entry(102, 1, joints=5),
            person_entry(103, 2),
            crowd_entry(104, 2),
            person_entry(105, 2, joints=0),
            person_entry(106, 4),
        ],
        "val": [person_entry(111, 11), person_entry(112, 12, joints=9)],
    }
    for name in ids:
        images = [image_entry(number, f"{prefix.format(name)}{number:012d}.jpg") for number in ids[name]]
        write_annotations(root, f"{name}{year}", annotation_file_content(images, people[name]))


def ids(people: ImageSet, split: str) -> list[int]:
    return people.id_I[people.rows(split)].tolist()


def scorer(path: Path) -> Any:
    from pycocotools.coco import COCO as Scorer

    return Scorer(str(path))


# ---- who trains, who validates ----


def test_the_val_files_images_validate_where_no_ids_are_listed(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, summary = prepare_images(tmp_path)
    assert (ids(people, "train"), ids(people, "validation")) == ([1, 2, 4], [11, 12])
    assert "split by file, since no valid_id: the images of person_keypoints_val2017.json validate" in str(
        summary
    )


def test_listed_ids_validate_whatever_file_holds_them(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "coco" / "valid_id").write_text("4\n11\n\n999\n")
    people, summary = prepare_images(tmp_path)
    assert (ids(people, "train"), ids(people, "validation")) == ([1, 2, 12], [4, 11])
    assert "split by valid_id: 2 of its 3 images can be found and validate" in str(summary)
    assert sorted(scorer(people.annotations("validation")).imgs) == [4, 11]


def test_one_file_is_split_by_ids(tmp_path: Path) -> None:
    write_annotations(
        tmp_path,
        "train2014",
        annotation_file_content([image_entry(1), image_entry(2)], [person_entry(1, 1), person_entry(2, 2)]),
    )
    (tmp_path / "coco" / "valid_id").write_text("2\r\n")
    people, _ = prepare_images(tmp_path)
    assert (ids(people, "train"), ids(people, "validation")) == ([1], [2])


@pytest.mark.parametrize(("absent", "split_by_file"), [(9, False), (10, True)])
def test_ids_of_a_much_larger_set_leave_the_split_to_the_files(
    tmp_path: Path, absent: int, split_by_file: bool
) -> None:
    write_coco(tmp_path)
    (tmp_path / "coco" / "valid_id").write_text(
        "4\n" + "".join(f"{number}\n" for number in range(90, 90 + absent))
    )
    people, summary = prepare_images(tmp_path)
    assert ids(people, "validation") == ([11, 12] if split_by_file else [4])
    said = "split by file, since only 1 of valid_id's 11 images can be found: the images of person_keypoints_val2017.json validate"
    assert (said in str(summary)) == split_by_file


def test_ids_whose_pictures_are_missing_leave_the_split_to_the_files_too(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "coco" / "valid_id").write_text("1\n2\n")
    for number in (1, 2):
        (tmp_path / "coco" / "train2017" / f"{number:012d}.jpg").unlink()
    people, summary = prepare_images(tmp_path)
    assert (ids(people, "train"), ids(people, "validation")) == ([4], [11, 12])
    assert "only 0 of valid_id's 2 images can be found" in str(summary)


def test_without_a_val_file_the_ids_decide_however_few_there_are(tmp_path: Path) -> None:
    write_annotations(
        tmp_path,
        "train2017",
        annotation_file_content([image_entry(1), image_entry(2)], [person_entry(1, 1), person_entry(2, 2)]),
    )
    (tmp_path / "coco" / "valid_id").write_text("".join(f"{number}\n" for number in range(2, 40)))
    people, _ = prepare_images(tmp_path)
    assert (ids(people, "train"), ids(people, "validation")) == ([1], [2])


def test_one_file_alone_is_refused(tmp_path: Path) -> None:
    write_annotations(tmp_path, "train2017", annotation_file_content([image_entry(1)], [person_entry(1, 1)]))
    with pytest.raises(
        UserError,
        match=r"only person_keypoints_train2017.json and no valid_id, expected a train and a val file",
    ):
        prepare_images(tmp_path)


def test_the_2014_sets_names_are_followed(tmp_path: Path) -> None:
    write_coco(tmp_path, "2014", prefix="COCO_{}2014_")
    people, _ = prepare_images(tmp_path)
    assert people.name(people.rows("validation")[0]) == "val2014/COCO_val2014_000000000011.jpg"


def test_of_two_years_the_newer_one_is_used_and_the_other_named(tmp_path: Path) -> None:
    write_coco(tmp_path, "2014")
    write_coco(tmp_path, "2017")
    _, summary = prepare_images(tmp_path)
    assert "not used beside 2017: person_keypoints_train2014.json, person_keypoints_val2014.json" in str(
        summary
    )


# ---- which images ----


def test_what_was_left_out_is_counted_and_named(tmp_path: Path) -> None:
    numbers = range(1, 8)
    sizes = {5: (1, 1), 6: (90, 60)}
    train = annotation_file_content(
        [image_entry(n, size=sizes.get(n, SIZE)) for n in numbers],
        [person_entry(n, n) for n in numbers if n != 2],
    )
    train["annotations"] = [
        a | ({"segmentation": []} if a["image_id"] == 5 else {}) for a in train["annotations"]
    ]
    write_annotations(tmp_path, "train2017", train)
    write_annotations(tmp_path, "val2017", annotation_file_content([image_entry(11)], [person_entry(11, 11)]))
    folder = tmp_path / "coco" / "train2017"
    (folder / "000000000003.jpg").unlink()
    (folder / "000000000004.jpg").write_bytes((folder / "000000000001.jpg").read_bytes()[:-40])
    (folder / "000000000006.jpg").write_bytes((folder / "000000000001.jpg").read_bytes())
    people, summary = prepare_images(tmp_path)
    assert ids(people, "train") == [1, 7]
    assert {reason: count for (split, reason), count in summary.left_out.items() if split == "train"} == {
        "too few people": 1,
        "image missing": 1,
        "image unreadable": 1,
        "too small": 1,
        "size not as annotated": 1,
    }
    text = str(summary)
    assert "000000000004.jpg: truncated JPEG" in text
    assert "000000000005.jpg: found 1 x 1 px, expected at least 8 a side" in text
    assert "000000000006.jpg: found 80 x 60 px, expected 90 x 60 as annotated" in text
    assert "train              7         2         2         0   too few people 1, image missing 1, " in text


def test_a_split_without_usable_images_is_refused(tmp_path: Path) -> None:
    write_coco(tmp_path)
    for path in (tmp_path / "coco" / "val2017").iterdir():
        path.write_bytes(b"no picture")
    with pytest.raises(
        UserError,
        match=r"none of 2 validation images can be used \(image unreadable 2\); .*000000000011.jpg: cannot be decoded",
    ):
        prepare_images(tmp_path)
    assert list((tmp_path / "prepared").rglob("*.*")) == []


def test_people_without_joints_and_crowds_do_not_count_as_people(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path, coco_params(min_people=SplitCounts(train=2, validation=0)))
    assert ids(people, "train") == [1]
    people, _ = prepare_images(tmp_path, coco_params(min_people=SplitCounts(train=0, validation=0)))
    assert ids(people, "train") == [1, 2, 3, 4]
    assert len(people.joints(2)[0]) == 0


def test_more_images_join_those_chosen_before(tmp_path: Path) -> None:
    numbers = range(1, 21)
    write_annotations(
        tmp_path,
        "train2017",
        annotation_file_content([image_entry(n) for n in numbers], [person_entry(n, n) for n in numbers]),
    )
    write_annotations(tmp_path, "val2017", annotation_file_content([image_entry(30)], [person_entry(30, 30)]))

    def chosen(count: int, seed: int = 1) -> list[int]:
        return ids(
            prepare_images(tmp_path, coco_params(images=SplitCounts(train=count, validation=0)), seed)[0],
            "train",
        )

    few, more = chosen(4), chosen(9)
    assert (len(few), len(more)) == (4, 9)
    assert set(few) < set(more)
    assert few != chosen(4, seed=2)
    for number in set(numbers) - set(more):  # a set of other images makes no difference
        (tmp_path / "coco" / "train2017" / f"{number:012d}.jpg").unlink()
    assert chosen(4) == few


# ---- what is written ----


def test_the_same_input_gives_the_same_bytes(tmp_path: Path) -> None:
    write_coco(tmp_path)
    files = [prepare_images(tmp_path)[0].path, *sorted((tmp_path / "prepared/coco/annotations").iterdir())]
    first = [path.read_bytes() for path in files]
    prepare_images(tmp_path)
    assert [path.read_bytes() for path in files] == first
    assert sorted(path for path in (tmp_path / "prepared/coco").rglob("*") if path.is_file()) == sorted(files)


def test_annotations_are_kept_as_they_were_for_the_scorer(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    raw = read_annotations(tmp_path / "coco/annotations/person_keypoints_train2017.json")
    written = scorer(people.annotations("train"))
    assert written.dataset["categories"] == raw.rest["categories"]
    assert [entry["id"] for entry in written.dataset["images"]] == [1, 2, 4]
    assert written.imgToAnns[2] == raw.people_of[2]  # with the crowd, and the one without joints
    assert people.annotation_N.tolist() == [101, 102, 103, 106, 111, 112]


def test_joints_are_cocos_numbers_and_nan_where_unlabelled(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    joint_PK2, labelled_PK = people.joints(0)
    assert joint_PK2[0].tolist() == [[10 + 3 * k, 8 + 2 * k] for k in range(17)]
    assert labelled_PK.sum(axis=1).tolist() == [17, 5]
    assert np.isnan(joint_PK2[1, 5:]).all()
    assert people.visible_NK[0].tolist() == [k % 2 == 1 for k in range(17)]
    assert people.row_N.tolist() == [0, 0, 1, 2, 3, 4]


@pytest.mark.parametrize("ignore_unlabelled", [True, False])
def test_crowds_and_people_without_joints_are_masked(tmp_path: Path, ignore_unlabelled: bool) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path, coco_params(ignore_unlabelled=ignore_unlabelled))
    file = scorer(people.annotations("train"))
    expected_HW = file.annToMask(file.anns[104]) == 0
    if ignore_unlabelled:
        expected_HW &= file.annToMask(file.anns[105]) == 0
    np.testing.assert_array_equal(people.mask(1), expected_HW)
    assert people.mask(0) is None


def test_a_compressed_crowd_is_the_same_crowd(tmp_path: Path) -> None:
    from pycocotools import mask

    inside_HW = cv2.resize(noise(3)[..., 0], SIZE) > 128
    encoded = mask.encode(np.asfortranarray(inside_HW.astype(np.uint8)))
    annotation = crowd_entry(2, 1) | {
        "segmentation": {"size": [60, 80], "counts": encoded["counts"].decode()}
    }
    path = write_annotations(
        tmp_path, "train2017", annotation_file_content([image_entry(1)], [person_entry(1, 1), annotation])
    )
    found = read_annotations(path).people_of[1][1]
    np.testing.assert_array_equal(region(found, 60, 80), inside_HW)


@pytest.mark.parametrize(
    "region_HW",
    [noise(1)[..., 0] > 100, np.ones((3, 5), bool), np.zeros((3, 5), bool), np.eye(4, dtype=bool)],
)
def test_run_lengths_give_the_region_back(region_HW: np.ndarray) -> None:
    np.testing.assert_array_equal(region_of(runs_of(region_HW), *region_HW.shape), region_HW)


def test_a_small_picture_is_packed_as_it_came(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    picture, affine = people.image(0)
    stored = (tmp_path / "coco" / people.name(0)).read_bytes()
    np.testing.assert_array_equal(picture, decode_image(stored, "picture"))
    np.testing.assert_array_equal(affine, np.eye(2, 3))


def test_large_pictures_are_shrunk_to_the_longest_side(tmp_path: Path) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path, coco_params(longest=40))
    picture, affine = people.image(0)
    assert picture.shape == (30, 40, 3)
    np.testing.assert_allclose(affine, [[0.5, 0, -0.25], [0, 0.5, -0.25]])


# ---- the reader in other processes ----


def _mean(people: ImageSet, queue: Any) -> None:
    queue.put((people.image(0)[0].mean(), float(people.mask(1).mean())))


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_an_open_reader_serves_other_processes_too(tmp_path: Path, start: str) -> None:
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    expected = people.image(0)[0].mean(), float(people.mask(1).mean())
    context = multiprocessing.get_context(start)
    queue = context.Queue()
    process = context.Process(target=_mean, args=(people, queue))
    process.start()
    assert queue.get(timeout=60) == expected
    process.join()
    assert pickle.loads(pickle.dumps(people)).image(0)[0].mean() == expected[0]


def test_reading_needs_no_pycocotools() -> None:
    code = "import sys, pose.data.image_set, pose.data.prepare.coco; print('pycocotools' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "False"
    )


def test_a_missing_or_foreign_prepared_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"coco.h5: no such file"):
        ImageSet(tmp_path)
    (tmp_path / "coco.h5").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"coco.h5: cannot be read as HDF5"):
        ImageSet(tmp_path)


# ---- mistakes ----

Change = Callable[[dict[str, Any]], Any]
RLE = {"size": [60, 80], "counts": [600, 700, 3500]}


def set_person(**values: Any) -> Change:
    return lambda content: content["annotations"][0].update(values)


def set_crowd(**values: Any) -> Change:
    return lambda content: content["annotations"][1].update(segmentation=RLE | values)


def set_image(**values: Any) -> Change:
    return lambda content: content["images"][0].update(values)


MISTAKES: dict[str, tuple[Change, str]] = {
    "no categories": (
        lambda content: content.pop("categories"),
        "found keys info, licenses, images, annotations, expected 'categories'",
    ),
    "no person": (
        lambda content: content["categories"][0].update(name="dog"),
        "found categories dog, expected 'person' among them",
    ),
    "other joints": (
        lambda content: content["categories"][0]["keypoints"].pop(),
        "has 16 keypoints, expected COCO's 17",
    ),
    "16 joints": (
        set_person(keypoints=[1, 2, 2] * 16),
        r"annotation 1 has keypoints of 48 numbers \(16 joints\), expected 51 numbers",
    ),
    "no joints": (
        lambda content: content["annotations"][0].pop("keypoints"),
        "annotation 1 has no 'keypoints'",
    ),
    "joint that is no number": (set_person(keypoints=["1"] * 51), "annotation 1 has keypoints of 51 numbers"),
    "joint at infinity": (
        set_person(keypoints=[float("inf"), 1, 2] * 17),
        "annotation 1 has keypoints of 51 numbers",
    ),
    "flag": (
        set_person(keypoints=[1, 1, 3] * 17),
        r"annotation 1 has keypoints with flags \[3\], expected 0, 1 or 2",
    ),
    "unknown image": (set_person(image_id=7), "annotation 1 is of image 7, which is not in 'images'"),
    "unknown category": (set_person(category_id=7), "annotation 1 has category_id 7"),
    "annotation 0": (set_person(id=0), "annotation 0 has id 0, expected 1 or more"),
    "annotation twice": (
        lambda content: content["annotations"].append(person_entry(1, 1)),
        "annotation 1 is listed twice",
    ),
    "image twice": (lambda content: content["images"].append(image_entry(1)), "image 1 is listed twice"),
    "no file name": (lambda content: content["images"][0].pop("file_name"), "image 1 has no 'file_name'"),
    "name out of the folder": (
        set_image(file_name="../../secret.jpg"),
        "file_name '../../secret.jpg' is not usable, expected a relative path",
    ),
    "absolute name": (
        set_image(file_name="/etc/passwd"),
        "file_name '/etc/passwd' is not usable, expected a relative path",
    ),
    "drive": (set_image(file_name="C:\\secret.jpg"), "expected a relative path"),
    "name of two lines": (
        set_image(file_name="a\nb.jpg"),
        r"file_name 'a\\nb.jpg' is not usable, expected a relative path",
    ),
    "id that is a word": (set_image(id="one"), "image 'one' has id 'one', expected a whole number"),
    "no width": (set_image(width=0), "image 1 has width 0, expected a whole number of at least 1"),
    "RLE of another size": (
        set_crowd(size=[80, 60]),
        r"annotation 2 has an RLE of size \[80, 60\], expected \[60, 80\]",
    ),
    "RLE too short": (set_crowd(counts=[600, 700]), "annotation 2 has an RLE of 1300 pixels, expected 4800"),
    "RLE too long": (
        set_crowd(counts=[600, 700, 9000]),
        "annotation 2 has an RLE of 10300 pixels, expected 4800",
    ),
    "RLE with a negative run": (
        set_crowd(counts=[-600, 700, 4700]),
        "annotation 2 has an RLE of 4800 pixels",
    ),
    "compressed RLE too short": (set_crowd(counts="`d0"), "annotation 2 has an RLE of"),
    "compressed RLE cut short": (set_crowd(counts="`"), "annotation 2 has an RLE that cannot be read"),
    "RLE of words": (set_crowd(counts=["a"]), "annotation 2 has an RLE that cannot be read"),
    "crowd without region": (
        lambda content: content["annotations"][1].update(segmentation=[]),
        "is a crowd without segmentation",
    ),
    "half a corner": (
        set_person(segmentation=[[1, 2, 3, 4, 5, 6, 7]]),
        "annotation 1 has a polygon that is not one",
    ),
    "corner far away": (
        set_person(segmentation=[[1, 2, 3, 4, 5, 1e9]]),
        "annotation 1 has a polygon that is not one",
    ),
    "no list": (
        lambda content: content.update(annotations={}),
        "expected 'annotations' among them, a list of objects",
    ),
}


@pytest.mark.parametrize(("change", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_the_annotations_is_named_in_one_line(
    tmp_path: Path, change: Change, message: str
) -> None:
    content = annotation_file_content([image_entry(1)], [person_entry(1, 1), crowd_entry(2, 1)])
    path = write_annotations(tmp_path, "train2017", content)
    change(content)
    path.write_text(json.dumps(content))
    write_annotations(tmp_path, "val2017", annotation_file_content([image_entry(11)], [person_entry(11, 11)]))
    with pytest.raises(UserError, match=message) as caught:
        prepare_images(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))
    assert not (tmp_path / "prepared").exists()


@pytest.mark.parametrize("text", ["", "[1]", '{"images": [', "\xff"])
def test_a_file_that_is_no_annotation_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "person_keypoints_train2017.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=r"person_keypoints_train2017.json: (not valid JSON|found a list)"):
        read_annotations(path)


def test_a_word_among_the_ids_is_named_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "valid_id"
    path.write_text("262145\n393223\ncat\n")
    with pytest.raises(
        UserError, match=r"valid_id: line 3: found 'cat', expected an image id \(a whole number\)"
    ):
        read_valid_ids(path)


def test_an_image_in_both_files_is_refused(tmp_path: Path) -> None:
    write_annotations(tmp_path, "train2017", annotation_file_content([image_entry(1)], [person_entry(1, 1)]))
    write_annotations(tmp_path, "val2017", annotation_file_content([image_entry(1)], [person_entry(2, 1)]))
    with pytest.raises(
        UserError, match=r"person_keypoints_val2017.json: image 1 is in person_keypoints_train2017.json too"
    ):
        prepare_images(tmp_path)


def test_a_root_without_coco_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"coco: no annotations of people, expected annotations/person_keypoints_train2017.json and",
    ):
        prepare_images(tmp_path)


def test_annotations_of_other_categories_are_left_out_and_counted(tmp_path: Path) -> None:
    write_coco(tmp_path)
    content = annotation_file_content(
        [image_entry(1)], [person_entry(1, 1), {"id": 2, "image_id": 1, "category_id": 18}]
    )
    content["categories"].append({"id": 18, "name": "dog"})
    write_annotations(tmp_path, "train2017", content)
    people, summary = prepare_images(tmp_path)
    assert "person_keypoints_train2017.json: 1 annotations of other categories than person left out" in str(
        summary
    )
    assert len(scorer(people.annotations("train")).anns) == 1


# ---- real images ----


@pytest.fixture
def real_root(real_data: Path, tmp_path: Path) -> Path:
    if not (real_data / "coco-mini").is_dir():
        pytest.skip(f"no coco-mini in {real_data}")
    (tmp_path / "coco").mkdir()
    for part in (real_data / "coco-mini").iterdir():
        (tmp_path / "coco" / part.name).symlink_to(part.resolve())
    return tmp_path


def test_real_coco_has_its_known_numbers_of_images_people_and_crowds(real_root: Path) -> None:
    people, summary = prepare_images(real_root, coco_params(longest=256))
    counts = {
        split: [summary.counts[split, what] for what in ("listed", "kept", "people", "crowds")]
        for split in ("train", "validation")
    }
    assert counts == {"train": [80, 28, 86, 5], "validation": [79, 32, 68, 1]}
    for split in ("train", "validation"):  # masks as pycocotools draws them
        file = scorer(people.annotations(split))
        for row in people.rows(split):
            width, height = people.image_size_I2[row]
            hidden = [a for a in file.imgToAnns[people.id_I[row]] if a["iscrowd"] or a["num_keypoints"] == 0]
            expected_HW = sum((file.annToMask(a) for a in hidden), np.zeros((height, width))) == 0
            mask_HW = people.mask(row)
            assert expected_HW.all() if mask_HW is None else (mask_HW == expected_HW).all()


def test_of_the_published_ids_too_few_are_in_a_few_real_images_to_split_by(
    real_root: Path, real_data: Path
) -> None:
    (real_root / "coco" / "valid_id").symlink_to((real_data / "coco" / "valid_id").resolve())
    people, summary = prepare_images(real_root, coco_params(longest=64))
    assert len(read_valid_ids(real_root / "coco" / "valid_id")) == 500
    assert "since only 1 of valid_id's 500 images can be found" in str(summary)
    assert (len(people.rows("train")), len(people.rows("validation"))) == (28, 32)
