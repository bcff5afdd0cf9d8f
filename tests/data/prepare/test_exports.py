"""Exports as annotation tools write them: prepared with notes, or refused in a line that says what to do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from coco_files import coco_params, person_entry, prepare_images
from helpers import COCO, SIZE, noise, user_error

from pose.data.image_set import SPLITS, ImageSet
from pose.io.images import encode_jpeg
from pose.keypoints.people import People
from pose.metrics.oks import CocoTruth

Entry = dict[str, Any]
# Categories, images and annotations of one file; where its images lie below `coco`, in their order.
Export = tuple[list[Entry], list[Entry], list[Entry], list[str]]
NOTHING: list[Any] = []
JOINTS = list(COCO.joints)
KEYPOINTS = person_entry(1, 1)["keypoints"]
BOX = [10.0, 8.0, 48.0, 40.0]
SIZES = {"width": SIZE[0], "height": SIZE[1]}
COUNT = range(2)  # images of a file, each with a person


def category(number: int, name: str, keypoints: list[str] | None = JOINTS) -> Entry:
    entry = {"id": number, "name": name, "supercategory": ""}
    return entry if keypoints is None else entry | {"keypoints": keypoints, "skeleton": []}


def in_each(names: list[str], first: int = 0, **values: Any) -> list[Entry]:
    """An image of each name."""
    return [SIZES | {"id": first + n, "file_name": names[n]} | values for n in COUNT]


def of_each(category: int, first: int = 0, **values: Any) -> list[Entry]:
    """A person in each image, of the same id."""
    entry = {"category_id": category, "segmentation": [], "keypoints": KEYPOINTS} | values
    return [{"id": first + n, "image_id": first + n} | entry for n in COUNT]


def cvat(split: str) -> Export:
    """Each joint is a label, hence a category; ids begin with 1 in each file; an area is that of the box."""
    categories = [category(1, "person"), *(category(2 + k, name, []) for k, name in enumerate(JOINTS))]
    names = [f"frame_{n:06d}.PNG" for n in COUNT]
    images = in_each(names, 1, date_captured=0, license=0)
    outline = {"iscrowd": 0, "area": 1920.0, "bbox": BOX, "num_keypoints": 17}
    attributes = {"occluded": False, "track_id": 0, "keyframe": True}
    people = of_each(1, 1, **outline, keypoints=[float(one) for one in KEYPOINTS], attributes=attributes)
    return categories, images, people, [f"images/{split}/{name}" for name in names]


def cvat_track(split: str) -> Export:
    """A track that has left the image has no keypoints; a video's frames have no size."""
    categories, images, people, files = cvat(split)
    images = [image | {"width": 0, "height": 0} for image in images]
    outside = {"id": 3, "keypoints": [], "num_keypoints": 0, "bbox": [0.0, 0.0, 0.0, 0.0], "area": 0.0}
    return categories, images, [*people, people[0] | outside], files


def label_studio(split: str) -> Export:
    """Ids begin with 0, names are those of uploads, and the list of joints is optional."""
    names = [f"{split}{n}a0b1c2-photo {n}.jpg".replace("train", "1234").replace("val", "5678") for n in COUNT]
    images = in_each([f"images\\{name}".replace(" ", "%20") for name in names])
    people = of_each(0, bbox=BOX, ignore=0, iscrowd=0, area=1920.0)
    return [category(0, "Person")], images, people, [f"images/{name}" for name in names]


def label_studio_media(split: str) -> Export:
    """As the server names files, and where the original images are at hand instead of the uploads."""
    categories, images, people, _ = label_studio(split)
    for n, image in enumerate(images):
        image["file_name"] = f"../../data/media/upload/1/0123abcd-{split}_{n}.jpg"
    return categories, images, people, [f"{split}/{split}_{n}.jpg" for n in COUNT]


def coco_annotator(split: str) -> Export:
    """Joints drawn without an outline leave area and box at 0; truth values are words of JSON's own."""
    first = 40 if split == "train" else 70
    names = [f"{split}-{n}.jpg" for n in COUNT]
    images = [
        SIZES | {"id": first + n, "file_name": names[n], "path": f"/datasets/a/{names[n]}", "deleted": False}
        for n in COUNT
    ]
    empty = {"area": 0, "bbox": [0, 0, 0, 0], "iscrowd": False, "isbbox": False}
    people = of_each(12, first, **empty, dataset_id=2, color="#a1b2c3", num_keypoints=17)
    drawn = {"segmentation": [[5, 5, 30, 5, 30, 30, 5, 30]], "area": 625, "bbox": [5, 5, 25, 25]}
    box_only = {key: people[0][key] for key in people[0] if "keypoints" not in key} | drawn
    box_only["id"] = first + 2
    return [category(12, "People")], images, [*people, box_only], [f"{split}/{name}" for name in names]


def via_converted(split: str) -> Export:
    """From VIA by a converter: ids are words, an outline has no outer list, `area` may be a list."""
    names = [f"{split} {n}.jpg" for n in COUNT]
    images = [{"id": f"{n}", "file_name": names[n], "width": "80", "height": "60"} for n in COUNT]
    outlines: list[Entry] = [
        {"segmentation": [10, 8, 58, 8, 34, 48], "area": [], "bbox": []},
        {"segmentation": [[]], "area": [], "bbox": []},
    ]
    people = [
        outlines[n] | {"id": f"{n}", "image_id": f"{n}", "category_id": "1", "keypoints": KEYPOINTS}
        for n in COUNT
    ]
    return [category(1, "person")], images, people, [f"{split}/{name}" for name in names]


def via_points(split: str) -> Export:
    """VIA itself: an annotation for each point, and no list of joints."""
    _, images, people, files = via_converted(split)
    points = [
        person | {"keypoints": [10, 12, 2], "num_keypoints": 1, "segmentation": [[]]} for person in people
    ]
    return [category(1, "nose", None)], images, points, files


def roboflow(split: str) -> Export:
    """A category for the project, without joints; ids begin with 0; no number of joints."""
    names = [f"IMG_{n}_JPG_jpg.rf.{split}{n}.jpg" for n in COUNT]
    images = in_each(names, license=1, extra={"name": "IMG.JPG"})
    people = of_each(1, bbox=[10, 8, 48, 40], area=1920, iscrowd=0)
    categories = [category(0, "people", None), category(1, "person")]
    return categories, images, people, [f"{split}/{name}" for name in names]


def labelme_converted(split: str) -> Export:
    """From labelme by a widespread script: area 1.0, the box as outline, ids from 0, no list of joints."""
    names = [f"{split}_{n}.jpg" for n in COUNT]
    images = in_each([f"C:\\photos\\{name}" for name in names])
    box = {"area": 1.0, "bbox": BOX, "segmentation": [[10, 8, 58, 8, 58, 48, 10, 48]]}
    people = of_each(1, **box, iscrowd=0, num_keypoints=0)
    return [category(1, "person", None)], images, people, [f"{split}/{name}" for name in names]


def table_converted(split: str) -> Export:
    """From a table by a script of one's own: every number has a decimal point, much is missing."""
    names = [f"{split}_{n}.jpg" for n in COUNT]
    images = [{"id": float(n + 1), "file_name": names[n]} for n in COUNT]
    keypoints = [float(one) for one in KEYPOINTS]
    people = [{"image_id": float(n + 1), "category_id": 1.0, "keypoints": keypoints} for n in COUNT]
    joints = [one.replace("_", " ").title() for one in JOINTS]
    return [category(1, "Skater", joints)], images, people, [f"{split}/{name}" for name in names]


READ: dict[Callable[[str], Export], list[str]] = {
    cvat: ["val.json: image and annotation ids that another source has too, all numbered anew: 2"],
    cvat_track: [
        "width and height missing, read from the image: 2 (first: frame_000000.PNG)",
        "without keypoints: people without labelled joints: 1 (first: annotation 3)",
    ],
    label_studio: [
        "file_name means a file of another name: 2 (first: ",
        "annotation ids missing, below 1 or twice, all numbered anew: 2",
        "num_keypoints missing, flags counted instead: 2 (first: annotation 0)",
        "category taken for 'person': 1 (first: 'Person')",
    ],
    label_studio_media: ["file_name means a file of another name: 2 (first: "],
    coco_annotator: [
        "iscrowd read as a whole number: 3 (first: False)",
        "bbox missing or empty, put around joints and outline: 2 (first: annotation 40)",
        "area not that of a person, 0.53 of the box taken: 2 (first: annotation 40)",
        "without keypoints: people without labelled joints: 1 (first: annotation 42)",
    ],
    via_converted: [
        "id read as a whole number: 4 (first: '0')",
        "segmentation without its outer list: 1 (first: annotation 0)",
        "area missing, the outline taken: 1 (first: annotation 0)",
        "area missing, 0.53 of the box taken: 1 (first: annotation 1)",
    ],
    roboflow: ["annotation ids missing, below 1 or twice, all numbered anew", "num_keypoints missing"],
    labelme_converted: [
        "category without a list of keypoints, taken for coco's: 1 (first: 'person')",
        "area not that of a person, 0.53 of the box taken: 2 (first: annotation 0)",
        "num_keypoints wrong, flags counted instead: 2",
    ],
    table_converted: [
        "names of joints read as those of coco: 1 (first: 'Nose')",
        "category taken for 'person': 1 (first: 'Skater')",
        "iscrowd missing, taken for 0: 2 (first: annotation number 1)",
        "id read as a whole number: 2 (first: 1.0)",
        "width and height missing, read from the image: 2",
    ],
}
REFUSED: dict[Callable[[str], Export], str] = {
    via_points: "found categories 'nose', expected 'person' among them, or one with the joints of coco",
    labelme_converted: "category 'person' has no list of keypoints .*, expected the list, or "
    "prepare.coco.assume_joints: true if they are coco's 17",
}


def write_export(root: Path, tool: Callable[[str], Export]) -> None:
    for seed, split in ((0, "train"), (10, "val")):
        categories, images, annotations, files = tool(split)
        content = {"categories": categories, "images": images, "annotations": annotations}
        path = root / "coco" / "annotations" / f"person_keypoints_{split}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        for number, name in enumerate(files):
            file = root / "coco" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(encode_jpeg(noise(seed + number), 90))


def ap_of_truth(images: ImageSet, split: str) -> float:
    rows = images.rows(split)
    found = []
    for row in rows:
        joint_PK2, labelled_PK = images.joints(row)
        found.append(People(joint_PK2, labelled_PK.astype(float), np.ones(len(joint_PK2))))
    truth = CocoTruth(images.annotations(split), COCO)
    return truth.evaluate(found, images.id_I[rows].tolist()).metrics()["AP"]


@pytest.mark.parametrize("tool", READ, ids=lambda tool: tool.__name__)
def test_an_export_is_read_with_notes_and_its_truth_scores_one(tmp_path, tool):
    write_export(tmp_path, tool)
    images, summary = prepare_images(tmp_path, coco_params(assume_joints=tool is labelme_converted))
    assert [len(images.rows(split)) for split in SPLITS] == [2, 2], str(summary)
    assert [ap_of_truth(images, split) for split in SPLITS] == pytest.approx([1, 1])
    for split in SPLITS:
        for row in images.rows(split):
            np.testing.assert_allclose(images.joints(row)[0][0].ravel(), np.delete(KEYPOINTS, np.s_[2::3]))
    for note in READ[tool]:
        assert note in str(summary)


@pytest.mark.parametrize("tool", REFUSED, ids=lambda tool: tool.__name__)
def test_an_export_that_does_not_say_enough_is_refused_in_one_line(tmp_path, tool):
    write_export(tmp_path, tool)
    with user_error(REFUSED[tool]):
        prepare_images(tmp_path)
    assert not (tmp_path / "prepared").exists()
