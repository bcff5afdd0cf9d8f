"""From COCO to the prepared folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import coco_params, crowd_entry, image_entry, person_entry, prepare_images, write_annotations
from helpers import COCO, SIZE, column, files_of, user_error

from pose.data.formats.coco_json import read_annotations, read_valid_ids
from pose.data.image_set import ImageSet
from pose.params import SplitCounts


def write_coco(root: Path, year: str = "2017", prefix: str = "") -> None:
    """Train: 1 with two people, 2 with a crowd and one without joints, 3 with nobody, 4. Val: 11, 12."""
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
    for name, ids in {"train": (1, 2, 3, 4), "val": (11, 12)}.items():
        images = [image_entry(number, f"{prefix.format(name)}{number:012d}.jpg") for number in ids]
        write_annotations(root, f"{name}{year}", images, people[name])


def write_one_each(root: Path, file: str, ids: range) -> None:
    """A file of images with one person each."""
    images, people = [image_entry(n) for n in ids], [person_entry(n, n) for n in ids]
    write_annotations(root, file, images, people)


def write_valid_ids(root: Path, *ids: int) -> None:
    (root / "coco" / "valid_id").write_text("".join(f"{number}\n" for number in ids))


def splits(people: ImageSet) -> tuple[list[int], list[int]]:
    """Ids of the images that train, and of those that validate."""
    train, validation = (people.id_I[people.rows(split)].tolist() for split in ("train", "validation"))
    return train, validation


def scorer(path: Path) -> Any:
    from pycocotools.coco import COCO as Scorer

    return Scorer(str(path))


# ---- who trains, who validates ----

VAL_FILE = "the images of person_keypoints_val2017.json validate"


@pytest.mark.parametrize(
    ("listed", "deleted", "expected", "rule"),
    [
        ([], [], ([1, 2, 4], [11, 12]), f"split by file, since no valid_id: {VAL_FILE}"),
        ([4, 11, 999], [], ([1, 2, 12], [4, 11]), "2 of valid_id's 3 images are present and validate"),
        (
            [4, *range(90, 99)],
            [],
            ([1, 2, 11, 12], [4]),
            "1 of valid_id's 10 images are present and validate",
        ),
        (
            [4, *range(90, 100)],
            [],
            ([1, 2, 4], [11, 12]),
            f"1 of valid_id's 11 images are present: {VAL_FILE}",
        ),
        ([1, 2], [1, 2], ([4], [11, 12]), f"since only 0 of valid_id's 2 images are present: {VAL_FILE}"),
    ],
    ids=["no list", "ids of both files", "a tenth present", "fewer present", "images missing"],
)
def test_listed_ids_validate_unless_nearly_all_of_their_images_are_missing(
    tmp_path, listed, deleted, expected, rule
):
    write_coco(tmp_path)
    if listed:
        write_valid_ids(tmp_path, *listed)
    for number in deleted:
        (tmp_path / "coco" / "train2017" / f"{number:012d}.jpg").unlink()
    people, summary = prepare_images(tmp_path)
    assert splits(people) == expected
    assert rule in str(summary)
    assert sorted(scorer(people.annotations("validation")).imgs) == expected[1]


@pytest.mark.parametrize("last", [2, 39])
def test_without_a_val_file_the_ids_decide_however_few_are_present(tmp_path, last):
    write_one_each(tmp_path, "train2014", range(1, 3))
    write_valid_ids(tmp_path, *range(2, last + 1))
    assert splits(prepare_images(tmp_path)[0]) == ([1], [2])


def test_annotations_are_written_as_json_writes_them_at_once(tmp_path):
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    for split in ("train", "validation"):
        text = people.annotations(split).read_text()
        content = json.loads(text)
        assert content["images"]
        assert content["annotations"]
        assert text == json.dumps(content, separators=(",", ":"))


def test_the_2014_set_is_read_too_unless_there_is_a_newer_one(tmp_path):
    write_coco(tmp_path, "2014", prefix="COCO_{}2014_")
    people, _ = prepare_images(tmp_path)
    assert people.name(people.rows("validation")[0]) == "val2014/COCO_val2014_000000000011.jpg"
    write_coco(tmp_path, "2017")
    _, summary = prepare_images(tmp_path)
    unused = "person_keypoints_train2014.json, person_keypoints_val2014.json"
    assert f"not used beside 2017: {unused}" in str(summary)


def test_annotations_that_cannot_be_used_leave_no_folder(tmp_path):
    def refused(message: str) -> None:
        with user_error(message):
            prepare_images(tmp_path)
        assert not (tmp_path / "prepared").exists()

    refused("coco: no annotations of people, expected annotations/person_keypoints_train2017.json and")
    write_one_each(tmp_path, "train2017", range(1, 2))
    refused("only person_keypoints_train2017.json and no valid_id, expected a train and a val file")
    write_annotations(tmp_path, "val2017", [image_entry(2)], [person_entry(2, 7)])
    refused(r"val2017\.json: annotation 2: found image_id 7")


# ---- which images ----


def test_images_that_are_left_out_are_counted_and_named(tmp_path):
    sizes, numbers = {6: (90, 60)}, [1, 2, 3, 4, 6, 7]
    people = [person_entry(n, n, segmentation=[]) for n in numbers if n != 2]
    images = [image_entry(n, size=sizes.get(n, SIZE)) for n in numbers]
    write_annotations(tmp_path, "train2017", images, people)
    write_one_each(tmp_path, "val2017", range(11, 12))
    folder = tmp_path / "coco" / "train2017"
    (folder / "000000000003.jpg").unlink()
    (folder / "000000000004.jpg").write_bytes((folder / "000000000001.jpg").read_bytes()[:-40])
    (folder / "000000000006.jpg").write_bytes((folder / "000000000001.jpg").read_bytes())
    found, summary = prepare_images(tmp_path)
    assert splits(found)[0] == [1, 7]
    text = str(summary)
    reasons = "too few people 1, image missing 1, image unreadable 1, size not as annotated 1"
    assert f"train                    6         2         2         0   {reasons}\n" in text
    assert "000000000004.jpg: truncated JPEG" in text
    assert "000000000006.jpg: found 80 x 60 px, expected 90 x 60 as annotated" in text


def test_a_split_without_usable_images_is_refused(tmp_path):
    write_coco(tmp_path)
    for path in (tmp_path / "coco" / "val2017").iterdir():
        path.write_bytes(b"no image")
    message = r"none of 2 validation images can be used \(image unreadable 2\); .*11.jpg: cannot be decoded"
    with user_error(message):
        prepare_images(tmp_path)
    assert list((tmp_path / "prepared").rglob("*.*")) == []


def test_images_show_as_many_people_with_joints_as_asked(tmp_path):
    write_coco(tmp_path)
    for least, expected in ((2, [1]), (1, [1, 2, 4]), (0, [1, 2, 3, 4])):
        params = coco_params(min_people=SplitCounts(train=least, validation=0))
        assert splits(prepare_images(tmp_path, params)[0])[0] == expected


def test_more_images_join_those_chosen_before(tmp_path):
    write_one_each(tmp_path, "train2017", range(1, 21))
    write_one_each(tmp_path, "val2017", range(30, 31))

    def chosen(count: int, seed: int = 1) -> list[int]:
        params = coco_params(images=SplitCounts(train=count, validation=0))
        return splits(prepare_images(tmp_path, params, seed)[0])[0]

    few, more = chosen(4), chosen(9)
    assert (len(few), len(more)) == (4, 9)
    assert set(few) < set(more)
    assert few != chosen(4, seed=2)
    for number in set(range(1, 21)) - set(more):  # a set of other images makes no difference
        (tmp_path / "coco" / "train2017" / f"{number:012d}.jpg").unlink()
    assert chosen(4) == few


# ---- what is written ----


def test_the_same_input_gives_the_same_bytes(tmp_path):
    write_coco(tmp_path)
    of_a_killed_process = tmp_path / "prepared/coco/annotations/.999999999.pose-train.json"
    of_a_killed_process.parent.mkdir(parents=True)
    of_a_killed_process.touch()

    first, second = (files_of(prepare_images(tmp_path)[0].path.parent) for _ in range(2))
    assert first == second
    assert first.keys() == {"coco.h5", "annotations/train.json", "annotations/validation.json"}


def test_annotations_are_kept_as_they_were_for_the_scorer(tmp_path):
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path)
    raw = read_annotations(tmp_path / "coco/annotations/person_keypoints_train2017.json", COCO)
    written = scorer(people.annotations("train"))
    assert written.dataset["categories"] == raw.rest["categories"]
    assert [entry["id"] for entry in written.dataset["images"]] == [1, 2, 4]
    assert written.imgToAnns[2] == raw.people_of[2]  # with the crowd, and the one without joints
    assert column(people, "annotation") == [101, 102, 103, 106, 111, 112]


@pytest.mark.parametrize("ignore_unlabelled", [True, False])
def test_crowds_and_people_without_joints_are_masked(tmp_path, ignore_unlabelled):
    write_coco(tmp_path)
    people, _ = prepare_images(tmp_path, coco_params(ignore_unlabelled=ignore_unlabelled))
    file = scorer(people.annotations("train"))
    expected_HW = file.annToMask(file.anns[104]) == 0
    if ignore_unlabelled:
        expected_HW &= file.annToMask(file.anns[105]) == 0
    np.testing.assert_array_equal(people.mask(1), expected_HW)
    assert people.mask(0) is None


def test_annotations_of_other_categories_are_left_out_and_counted(tmp_path):
    write_coco(tmp_path)
    dog = {"id": 2, "image_id": 1, "category_id": 18}
    people = [person_entry(1, 1), dog]
    write_annotations(tmp_path, "train2017", [image_entry(1)], people, {"id": 18, "name": "dog"})
    people, summary = prepare_images(tmp_path)
    note = "train2017.json: annotations of other categories, left out: 1 (first: annotation 2 of 'dog')"
    assert note in str(summary)
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


def test_real_coco_has_its_known_numbers_of_images_people_and_crowds(real_root, real_data):
    people, summary = prepare_images(real_root, coco_params(longest=256))
    counts = {
        row: [summary.counts[row, column] for column in summary.columns] for row in ("train", "validation")
    }
    assert counts == {"train": [80, 28, 86, 5], "validation": [79, 32, 68, 1]}
    for split in counts:  # masks as pycocotools draws them
        file = scorer(people.annotations(split))
        for row in people.rows(split):
            width, height = people.image_size_I2[row]
            hidden = [a for a in file.imgToAnns[people.id_I[row]] if a["iscrowd"] or a["num_keypoints"] == 0]
            expected_HW = sum((file.annToMask(a) for a in hidden), np.zeros((height, width))) == 0
            mask_HW = people.mask(row)
            assert expected_HW.all() if mask_HW is None else (mask_HW == expected_HW).all()
    (real_root / "coco" / "valid_id").symlink_to((real_data / "coco" / "valid_id").resolve())
    assert len(read_valid_ids(real_root / "coco" / "valid_id")) == 500
    again, summary = prepare_images(real_root, coco_params(longest=64))
    assert "since only 1 of valid_id's 500 images are present" in str(summary)
    assert [len(ids) for ids in splits(again)] == [28, 32]
