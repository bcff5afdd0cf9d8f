"""Small LSP, LSPET and MPII sets as published, what is prepared from them, synthetic sets, predictions."""

import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.io
from coco_files import image_entry, person_entry, write_annotations
from helpers import ROOT, noise

from pose.data.person_set import PersonSet
from pose.data.prepare.dataset import prepare_dataset
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.prepare.summary import Summary
from pose.data.synthetic import synthesize
from pose.io.images import encode_jpeg
from pose.keypoints.people import People
from pose.metrics.truth import check_truth
from pose.params import DatasetParams, SyntheticParams, load_params

PREPARE = load_params(ROOT / "params.yaml").prepare.model_copy(
    update={
        "lsp_held_out": 0.0,
        "lspet_held_out": 0.5,
        "mpii_held_out": 0.5,
        "pack_size": 96,
        "jpeg_quality": 95,
    }
)
EMPTY = np.zeros((0, 0))  # MATLAB's []
IMAGE_SIZE = 120, 100  # width, height of all images
TRAIN_FILE = "annotations/person_keypoints_train2017.json"


def prepare_people(root: Path, *, workers: int | None = 1, **replaced: Any) -> tuple[PersonSet, Summary]:
    """The prepared file of the sets under `root`. replaced: other parameters."""
    path = root / "prepared" / "lsp_mpii.h5"
    params = PREPARE.model_copy(update=replaced)
    summary = prepare_lsp_mpii(root, path, params=params, seed=1, workers=workers)
    return PersonSet(path), summary


def splits_of(people: PersonSet) -> list[tuple[str, str]]:
    """Image name and split of everybody."""
    return [(people.name(row), str(people.split_N[row])) for row in range(len(people))]


def write_images(folder: Path, names: list[str]) -> None:
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(names):
        (folder / "images" / name).write_bytes(encode_jpeg(noise(seed, *IMAGE_SIZE), 90))


HAND = ("wrist", "thumb", "pinky")


def own_person(number: int, image: int, joints: int = len(HAND), **replaced: Any) -> dict[str, Any]:
    """Something with so many joints, each at a place of its own, as a tool writes it that knows little."""
    keypoints = [one for k in range(joints) for one in (12.0 + 5 * k + number, 10.0 + 9 * k, 1 + k % 2)]
    box = [10.0, 8.0, 40.0, 30.0]
    return {"id": number, "image_id": image, "category_id": 1, "keypoints": keypoints, "bbox": box} | replaced


def write_own_set(
    folder: Path, count: int = 6, name: str = "annotations", joints: Sequence[str] = HAND, **content: Any
) -> dict[str, Any]:
    """A COCO-format file, of so many images with one thing each, and these images. content: other keys."""
    images = [image_entry(number, f"{name}{number}.jpg") for number in range(1, count + 1)]
    category = {"id": 1, "name": "hand", "keypoints": list(joints), "skeleton": [[1, 2], [1, 3]]}
    people = [own_person(number, number, len(joints)) for number in range(1, count + 1)]
    content = {"images": images, "annotations": people, "categories": [category]} | content
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for entry in content["images"]:
        data = encode_jpeg(noise(entry["id"], entry["width"], entry["height"]), 90)
        (folder / "images" / entry["file_name"]).write_bytes(data)
    (folder / f"{name}.json").write_text(json.dumps(content))
    return content


def own_spec(*sources: object, **values: Any) -> dict[str, Any]:
    """Parameters of a data set of one's own. values: others than `pose new-dataset` would write."""
    spec = {"skeleton": None, "category": None, "joints": {}, "assume_joints": False, "validation": 0.5}
    spec |= {"sources": [str(source) for source in sources], "problems": ["single", "multi"]}
    return spec | values


def prepare_own(folder: Path, *sources: Path, **values: Any) -> tuple[Path, Summary]:
    """The prepared folder of a data set named `own`. values: as of `own_spec`."""
    spec, out = DatasetParams.model_validate(own_spec(*sources, **values)), folder / "out"
    return out, prepare_dataset("own", spec, out, params=PREPARE, seed=1, check=check_truth, workers=1)


def write_two_splits(root: Path, **person: Any) -> dict[str, Any]:
    """Train: images 1 and 2, val: 3, a person each; `person` changes the first. Returns train's content."""
    people = [person_entry(1, 1, **person), person_entry(2, 2)]
    write_annotations(root, "val2017", [image_entry(3)], [person_entry(3, 3)])
    return write_annotations(root, "train2017", [image_entry(1), image_entry(2)], people)


def rewrite_train(root: Path, content: dict[str, Any]) -> None:
    """Other annotations for the same image files."""
    (root / "coco" / TRAIN_FILE).write_text(json.dumps(content))


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with EXIF data that says how it is to be turned: 6 is a quarter, 3 a half."""
    entry = b"\x01\x12\0\x03\0\0\0\x01" + orientation.to_bytes(2, "big") + bytes(2)
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01" + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + jpeg[2:]


def write_mat(path: Path, **variables: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(path, variables)
    return path


def write_lsp(root: Path, num_people: int = 6, folder: str = "LSP") -> np.ndarray:
    """Joints (N, 14, 3) of people whose images are written too; joint 3 of the first is occluded."""
    joint_NJ3 = _joints(num_people)
    joint_NJ3[..., 2] = 0
    joint_NJ3[0, 3, 2] = 1
    write_images(root / folder, [f"im{number:04d}.jpg" for number in range(1, num_people + 1)])
    write_mat(root / folder / "joints.mat", joints=joint_NJ3.transpose(2, 1, 0))
    return joint_NJ3


def write_lspet(root: Path, num_people: int = 8, folder: str = "LSPET") -> np.ndarray:
    """The same for LSPET; joint 3 of the first is not annotated, and its numbers mean nothing."""
    joint_NJ3 = _joints(num_people)
    joint_NJ3[0, 3] = (-45.3, 170.0, 0)
    write_images(root / folder, [f"im{number:05d}.jpg" for number in range(1, num_people + 1)])
    write_mat(root / folder / "joints.mat", joints=joint_NJ3.transpose(1, 2, 0))
    return joint_NJ3


def _joints(num_people: int) -> np.ndarray:
    places = np.random.default_rng(num_people).uniform(20, 80, (num_people, 14, 2))
    return np.concatenate([places, np.ones((num_people, 14, 1))], axis=2)


def struct(*elements: dict[str, Any]) -> np.ndarray:
    """A MATLAB structure array (1, n): the same fields in every element."""
    array = np.empty((1, len(elements)), dtype=[(name, object) for name in elements[0]])
    for index, element in enumerate(elements):
        array[0, index] = tuple(element.values())
    return array


def mpii_place(scale: float, x: float, y: float) -> dict[str, Any]:
    return {"scale": scale, "objpos": struct({"x": x, "y": y})}


def mpii_points(*points: tuple[int, float, float, Any]) -> dict[str, Any]:
    """Joints of a person: id, x, y, is_visible."""
    rows = [dict(zip(("id", "x", "y", "is_visible"), point, strict=True)) for point in points]
    return {"annopoints": struct({"point": struct(*rows)})}


def mpii_images() -> list[tuple[str, bool, np.ndarray]]:
    """(name, is for training, annorect) of images that together have the quirks of the real file."""
    place, head = mpii_place(0.3, 60.0, 50.0), {"x1": 10.0, "y1": 20.0, "x2": 40.0, "y2": 60.0}
    no_head = dict.fromkeys(head, EMPTY)
    sixteen = mpii_points(*[(k, 30.0 + k, 40.5 + k, EMPTY if k in (8, 9) else k % 2) for k in range(16)])
    few = mpii_points((9, 31, 32, "1"), (0, 33.5, 34, "0"), (12, -3.0, 34, 1))
    no_flag = {"annopoints": struct({"point": struct({"x": 51, "y": 52, "id": 4})})}
    no_points = {"annopoints": EMPTY}
    two = struct(head | place | few, no_head | mpii_place(0.4, 70.0, 55.0) | no_flag)
    return [
        ("full.jpg", True, struct(head | place | sixteen)),
        ("nobody.jpg", True, EMPTY),
        ("two.jpg", True, two),
        ("heads_only.jpg", True, struct(head)),
        ("no_points.jpg", True, struct(head | place | no_points)),
        ("empty_place.jpg", True, struct(head | {"scale": EMPTY, "objpos": EMPTY} | few)),
        ("test.jpg", False, struct(place)),
        ("test_without_place.jpg", False, struct({"x1": 1, "y1": 1, "x2": 2, "y2": 2})),
    ]


def write_mpii_mat(root: Path, images: list[tuple[str, bool, np.ndarray]] | None = None) -> Path:
    """The published file and the images that it names."""
    images = mpii_images() if images is None else images
    annolist = struct(
        *(
            {"image": struct({"name": name}), "annorect": people, "vididx": EMPTY}
            for name, _, people in images
        )
    )
    training = np.array([[train for _, train, _ in images]], dtype=float)
    release = struct({"annolist": annolist, "img_train": training, "version": "12"})
    write_images(root / "mpii", [name for name, _, _ in images])
    return write_mat(root / "mpii" / "mpii_human_pose_v1_u12_1.mat", RELEASE=release)


def listed_person(name: str, index: int = 1, *, validates: bool = False, **replaced: Any) -> dict[str, Any]:
    """A person of `mpii_annotations.json`: 15 of 16 joints."""
    joints = [[30.0 + joint, 40.0 + joint, joint % 2] for joint in range(15)] + [[0, 0, 0]]
    return {
        "img_paths": name,
        "objpos": [60.0, 50.0],
        "joint_self": joints,
        "scale_provided": 0.3,
        "isValidation": float(validates),
        "annolist_index": 1.0,
        "people_index": float(index),
        **replaced,
    }


def write_mpii_json(
    root: Path, *people: dict[str, Any], name: str = "mpii_annotations.json", images: bool = True
) -> Path:
    """The list of people and, unless an image is missing, the images that it names."""
    path = root / "mpii" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(people).encode()
    path.write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    if images:
        write_images(root / "mpii", list(dict.fromkeys(person["img_paths"] for person in people)))
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
    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "lsp_mpii.h5", "w") as file:
        for name, values in columns.items():
            if values is not None:
                file[name] = values
    return root / "lsp_mpii.h5"


def synthesize_sets(
    root: Path,
    *,
    lsp: int = 0,
    lspet: int = 0,
    mpii: tuple[int, int] = (0, 0),
    coco: tuple[int, int] = (0, 0),
    seed: int = 1,
    workers: int = 1,
) -> Path:
    """Synthetic sets: people of each half of LSP, of LSPET, and to train and validate on of the others."""
    params = SyntheticParams.model_validate(
        {
            "lsp": {"train": lsp, "test": lsp},
            "lspet": lspet,
            "mpii": {"train": mpii[0], "validation": mpii[1]},
            "coco": {"train": coco[0], "validation": coco[1]},
            "size": 128,
        }
    )
    synthesize(params, seed=seed, root=root, workers=workers)
    return root


def perfect_output(heatmap_Khw: np.ndarray, cell_PK: np.ndarray, *, gap: float = 10.0) -> np.ndarray:
    """What a perfect network would answer to a sample: heatmaps, then tags, (2 K, h, w) float32.

    The tags of two people differ by at least `gap`. In a joint's target a cell has the tag of the person
    whose joint that is; elsewhere that of the person with any joint nearest, so that refinement, which looks
    for joints that a person lacks, does not take those of others.
    """
    h, w = heatmap_Khw.shape[1:]
    tag_Khw = np.zeros_like(heatmap_Khw)
    person_N, joint_N = np.nonzero(cell_PK >= 0)
    y_N, x_N = np.divmod(cell_PK[person_N, joint_N], w)
    y_hw, x_hw = np.indices((h, w), dtype=np.float32)

    def nearest(these: np.ndarray) -> np.ndarray:
        """(h, w) tag of the person of the nearest of these joints."""
        distance_nhw = (y_hw - y_N[these, None, None]) ** 2 + (x_hw - x_N[these, None, None]) ** 2
        return gap * (person_N[these][distance_nhw.argmin(axis=0)] + 1)

    if len(person_N):
        tag_Khw[:] = nearest(np.arange(len(person_N)))
    for joint in np.unique(joint_N):
        inside_hw = heatmap_Khw[joint] > 0
        tag_Khw[joint, inside_hw] = nearest(np.flatnonzero(joint_N == joint))[inside_hw]
    return np.concatenate([heatmap_Khw, tag_Khw])


def one_each(people: People) -> list[People]:
    """Each of these people alone."""
    return [People(*(column[[n]] for column in vars(people).values())) for n in range(len(people))]


def near(joint_NK2: np.ndarray, spread: float, seed: int = 0) -> People:
    """People predicted so many px off, at random, their unlabelled joints somewhere."""
    rng = np.random.default_rng(seed)
    found_NK2 = np.nan_to_num(joint_NK2, nan=20.0) + rng.normal(0, spread, joint_NK2.shape)
    score_NK = rng.uniform(0.2, 1, joint_NK2.shape[:2])
    return People(found_NK2, score_NK, score_NK.mean(axis=1))
