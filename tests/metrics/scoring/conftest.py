"""Predictions near the truth of drawn people, as files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from raw_sets import near, one_each

from pose.data.image_set import ImageSet
from pose.data.person_set import PersonSet
from pose.data.results import write_results
from pose.keypoints.results import ImageResult, Results


@pytest.fixture
def rows_file(people: PersonSet, tmp_path: Path) -> Callable[..., Path]:
    """Writes predictions of the evaluated people, by row, so many px off."""

    def write(name: str, spread: float, seed: int = 0) -> Path:
        rows = np.sort(np.concatenate([people.rows("validation"), people.rows("test")]))
        found = near(people.joint_NK2[rows], spread, seed)
        images = [ImageResult(one, row=int(row)) for one, row in zip(one_each(found), rows, strict=True)]
        write_results(tmp_path / name, Results(images, people.skeleton, 16, task="hgpose"), "rows")
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def images(prepared_coco: Path) -> ImageSet:
    return ImageSet(prepared_coco)


@pytest.fixture
def coco_file(images: ImageSet, tmp_path: Path) -> Callable[..., Path]:
    """Writes predictions of the evaluated images in COCO's format, or of the first of them."""

    def write(name: str, spread: float, count: int | None = None) -> Path:
        rows = images.rows("validation")[:count].tolist()
        found = [near(images.joints(row)[0], spread, seed=row) for row in rows]
        ids = images.id_I[rows].tolist()
        results = [ImageResult(one, image_id=number) for one, number in zip(found, ids, strict=True)]
        write_results(tmp_path / name, Results(results, images.skeleton, 17), "coco")
        return tmp_path / name

    return write


@pytest.fixture
def files(people: PersonSet, images: ImageSet, rows_file, coco_file, tmp_path: Path, monkeypatch) -> None:
    """Predictions of rows and of images in the working folder, and their truth as `people.h5` and `coco`."""
    monkeypatch.chdir(tmp_path)
    rows_file("rows.h5", 4.0)
    coco_file("results.json", 2.0)
    Path("people.h5").symlink_to(people.path)
    Path("coco").symlink_to(images.path.parent)
