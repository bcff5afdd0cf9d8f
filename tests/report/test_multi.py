"""The page of a task that finds many people in an image; here images in which it is known who is found, and how far off."""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from report_helpers import Page, report, without_curves, write_clock
from report_helpers import workspace as single_workspace

from pose.data.image_set import ImageSet
from pose.data.prepare.coco import prepare_coco
from pose.io.errors import UserError
from pose.keypoints.people import People
from pose.keypoints.skeleton import COCO
from pose.params import AEHourglassParams, Params, load_params
from pose.report.files import read_results
from pose.report.multi import caution
from pose.tasks.multi import MultiData

TASK = "hgpose-ae"
FILES = (
    "data/prepared/coco/coco.h5",
    f"predictions/{TASK}.json",
    *(f"metrics/plots/{TASK}/{name}.csv" for name in ("train", "valid", "precision", "joints")),
)
WIDTH, HEIGHT = 160, 120
PLACE_K2 = (
    np.random.default_rng(0).uniform((0, 0), (40, 60), (len(COCO), 2)).round(1)
)  # of a person's joints, px from their corner
SEVERAL, ONE, NOBODY, CROWD = (
    range(11, 17),
    17,
    18,
    19,
)  # ids of the test images; two people in each of the first


# --- what the stages leave
# ---------------------------------------------------------------------------------------------


def params(tasks: tuple[str, ...] = (TASK,), **changes: object) -> Params:
    """Those of the repository, with two images drawn, one of two training images held out, and whatever else is said."""
    given = load_params(ROOT / "params.yaml")
    same = given.tasks[TASK]
    changed = {
        "tasks": {task: given.tasks.get(task, same) for task in tasks},
        "report": given.report.model_copy(update={"people": 2}),
        "multi": given.multi.model_copy(update={"held_out": 1}),
    }
    return given.model_copy(update=changed | changes)


def person(number: int, image: int, left: float, **replaced: Any) -> dict[str, Any]:
    keypoints = np.column_stack([PLACE_K2 + (left, 30), np.full(len(COCO), 2)]).ravel().tolist()
    box: dict[str, Any] = {
        "bbox": [left, 30, 40, 60],
        "area": 2400.0,
        "segmentation": [[left, 30, left + 40, 30, left + 40, 90]],
    }
    joints: dict[str, Any] = {"keypoints": keypoints, "num_keypoints": len(COCO), "iscrowd": 0}
    return {"id": number, "image_id": image, "category_id": 1} | box | joints | replaced


def nowhere(number: int, image: int, left: float, **replaced: Any) -> dict[str, Any]:
    """A person without annotated joints."""
    return person(number, image, left, keypoints=[0] * 51, num_keypoints=0, **replaced)


def write_raw(root: Path, name: str) -> None:
    """`name`: of the images, with a place for their id."""
    runs = {
        "size": [HEIGHT, WIDTH],
        "counts": [0, 40 * HEIGHT, (WIDTH - 40) * HEIGHT],
    }  # of the leftmost 40 columns
    people = {
        "train": {1: [person(1, 1, 10)], 2: [person(2, 2, 50), person(3, 2, 100)]},
        "val": {
            **{id: [person(10 * id, id, 0), person(10 * id + 1, id, 90)] for id in SEVERAL},
            ONE: [person(170, ONE, 0)],
            NOBODY: [],
            CROWD: [
                nowhere(190, CROWD, 0, iscrowd=1, segmentation=runs),
                person(191, CROWD, 50),
                person(192, CROWD, 110),
            ],
        },
    }
    category = {
        "id": 1,
        "name": "person",
        "supercategory": "person",
        "keypoints": list(COCO.joints),
        "skeleton": [],
    }
    (root / "coco/annotations").mkdir(parents=True)
    for split, people_of in people.items():
        images = [
            {"id": id, "file_name": name.format(id), "width": WIDTH, "height": HEIGHT} for id in people_of
        ]
        everyone = [one for some in people_of.values() for one in some]
        content = {"info": {}, "images": images, "annotations": everyone, "categories": [category]}
        (root / f"coco/annotations/person_keypoints_{split}2017.json").write_text(json.dumps(content))
        (root / f"coco/{split}2017").mkdir()
        for image in images:
            picture = np.random.default_rng(image["id"]).integers(
                0, 255, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8
            )
            cv2.imwrite(
                str(root / f"coco/{split}2017/{image['file_name']}"), cv2.resize(picture, (WIDTH, HEIGHT))
            )


def somebody(left: float, *, score: float, off: float = 0.0) -> tuple[np.ndarray, float]:
    return PLACE_K2 + (left + off, 30), score


def together(*some: tuple[np.ndarray, float]) -> People:
    joint_PK2 = np.array([joint_K2 for joint_K2, _ in some]).reshape(-1, len(COCO), 2)
    score_P = np.array([score for _, score in some])
    return People(joint_PK2, np.repeat(score_P[:, None], len(COCO), axis=1), score_P)


def found_in(id: int) -> People:
    """Further off from image to image, and nearly nobody in each; in the crowd's image somebody of the crowd, and somebody false."""
    ghost = somebody(45, score=0.05, off=300)
    if id in SEVERAL:
        off = 4.0 * (id - SEVERAL[0])
        return together(somebody(0, score=0.9, off=off), somebody(90, score=0.8, off=off), ghost)
    if id == CROWD:
        return together(
            somebody(50, score=0.9),
            somebody(110, score=0.9),
            somebody(-10, score=0.85),
            somebody(45, score=0.85, off=300),
            ghost,
        )
    return together(somebody(0, score=0.9), ghost) if id == ONE else together()


def workspace(root: Path, *, name: str = "{:04d}.jpg", nobody: bool = False) -> Path:
    given = params()
    write_raw(root / "raw", name)
    everything = given.prepare.coco.min_people.model_copy(update={"train": 0, "validation": 0})
    coco = given.prepare.coco.model_copy(update={"min_people": everything})
    prepare_coco(root / "raw", root / "data/prepared/coco", params=coco, seed=1, workers=1)
    data = MultiData(ImageSet(root / "data/prepared/coco"), given.multi, 0)
    rows = data.rows("test")
    found = [together() if nobody else found_in(int(id)) for id in data.images.id_I[rows]]
    plots = root / "metrics/plots" / TASK
    plots.mkdir(parents=True)
    for file, table in data.tables(found, rows).items():
        table.to_csv(plots / f"{file}.csv", index=False)
    data.write(root / f"predictions/{TASK}.json", TASK, found, rows)
    scores = data.score(found, rows)
    scores["COCO without tags"] = {"AP": scores["COCO"]["AP"] - 0.123}
    scores["COCO train"] = {"AP": 0.7654}
    scores["grouping"] = {"detection_threshold": 0.15, "tag_threshold": 0.75, "max_distance": 0.3}
    (root / f"metrics/{TASK}.json").write_text(json.dumps(scores))
    step = np.arange(10, 501, 10)
    terms = {"heatmap": 1 / step, "pull": 0.1 / step, "push": 0.5 / step, "loss": 2 / step}
    pd.DataFrame({"step": step, "lr": 1e-3, **terms}).to_csv(plots / "train.csv", index=False)
    step = np.arange(100, 501, 100)
    valid = {"step": step, "epoch": step / 100, "AP": step / 1000, "AP50": step / 600, "AR": step / 800}
    pd.DataFrame(valid).to_csv(plots / "val.csv", index=False)
    write_clock(root, TASK, step, step * 0.5)
    return root


def page_of(root: Path, given: Params | None = None) -> Page:
    return report(root, given or params())


def bared(root: Path) -> Path:
    for path in (root / "metrics/plots" / TASK).iterdir():
        path.unlink()
    return root


def pictures(page: Page) -> list[str]:
    return [str(image["alt"]) for image in page.all("img")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    root = workspace(tmp_path_factory.mktemp("whole"))
    return root, page_of(root)


@pytest.fixture
def copy(whole: tuple[Path, Page], tmp_path: Path) -> Path:
    """To change something in."""
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("raw", "report"))
    return tmp_path


@pytest.fixture
def bare(copy: Path) -> Path:
    """Without curves: its page takes less time."""
    return bared(copy)


# --- the page as a whole
# -----------------------------------------------------------------------------------------------


def test_it_says_what_the_stages_found(whole):
    root, page = whole
    figures = json.loads((root / f"metrics/{TASK}.json").read_text())["COCO"]
    for name in ("AP", "AP50", "AR"):
        assert f"{name} {figures[name]:.3f}" in page.text
    assert "15 people in 9 images" in page.text
    assert "4 min 10 s" in page.text
    assert "Precision over recall" in page.text
    assert "left ankle" in page.text
    assert "Training loss: push" in page.text
    assert "Missing here" not in page.text


def test_what_the_tags_are_worth_is_a_difference_with_its_sign(whole, bare):
    assert "Worth of the tags +0.123" in whole[1].text
    path = bare / f"metrics/{TASK}.json"
    figures = json.loads(path.read_text())
    figures["COCO without tags"]["AP"] = figures["COCO"]["AP"] + 0.05
    path.write_text(json.dumps(figures))
    assert "Worth of the tags −0.050" in page_of(bare).text
    del figures["COCO without tags"], figures["COCO train"], figures["grouping"], figures["images"]
    path.write_text(json.dumps(figures))
    page = page_of(bare)
    assert "Worth of the tags" not in page.text
    assert f"{TASK}, this run" in page.text


def test_our_figures_stand_beside_the_published_ones_column_by_column(whole):
    root, page = whole
    ours = [
        f"{value:.3f}" for value in json.loads((root / f"metrics/{TASK}.json").read_text())["COCO"].values()
    ]
    assert (
        f"{TASK}, this run data/synthetic, 9 images {' '.join(ours)}" in page.text
    )  # nobody is large: two figures less
    for expected in (
        "AP AP50 AP75 AP M AP L AR AR50 AR75 AR M AR L",
        "0.593 0.820 0.649 0.505 0.727 0.639 0.839 0.685 0.540 0.779",
        "Associative embedding, one scale HigherHRNet, README COCO test-dev 0.566",
        f"{TASK}, on images it was trained on data/synthetic 0.765",
        "peaks above 0.15, tags no further apart than 0.75; by distance alone, 0.3 of the image's longer side",
        "These are chosen on images held out of training",
    ):
        assert expected in page.text
    assert "Newell et al. 2016" not in page.text  # of single-person tasks


def test_the_axes_of_fractions_end_at_one(whole):
    charts = whole[1].source.split("<svg")
    (accuracy,) = (chart for chart in charts if 'aria-label="Validation accuracy over steps' in chart)
    assert ">0.8</text>" in accuracy
    assert ">1.0</text>" in accuracy
    assert ">1.2</text>" not in accuracy


def test_both_problems_share_a_page_and_each_brings_its_data(bare):
    without_curves(single_workspace(bare))
    both = page_of(bare, params(("hgpose", TASK)))
    for title in ("People by set and split", "Images by split", "MPII validation", "COCO test-dev"):
        assert title in both.text
    alone = page_of(bare)
    assert "People by set and split" not in alone.text
    assert (
        "Validation (tested on) 9 8 15 0 1" in alone.text
    )  # images, with people, people, without joints, crowds
    assert "Train 2 2 3 0 0" in alone.text
    (bare / "data/prepared/lsp_mpii.h5").unlink()
    both = page_of(bare, params(("hgpose", TASK)))
    assert "data/prepared/lsp_mpii.h5: no such file" in both.text
    assert "Images by split" in both.text


def test_what_was_watched_is_said_to_have_been_trained_on_where_nothing_is_held_out(copy):
    assert "Over images held out of training." in page_of(copy).text
    page = page_of(copy, params(multi=params().multi.model_copy(update={"held_out": 0})))
    assert "Over images trained on." in page.text
    assert "held out of training" not in page.text


def test_the_network_is_described_as_it_is(bare):
    assert "all people of a picture; stacked hourglass of 1 × 1, 64 features" in page_of(bare).text
    network = AEHourglassParams(
        kind="ae", stacks=4, features=256, increase=128, outputs=68, stem=[64, 128, 128]
    )
    spec = params().tasks[TASK].model_copy(update={"network": network})
    given = params().model_copy(update={"tasks": {TASK: spec}})
    assert "associative-embedding hourglass of 4, 256 features" in page_of(bare, given).text


# --- drawn images
# ------------------------------------------------------------------------------------------------------


def test_the_best_and_the_worst_images_of_several_people_are_drawn_in_order(whole):
    names = [words.split(":")[0] for words in pictures(whole[1])]
    assert names == [f"val2017/{id:04d}.jpg" for id in (11, CROWD, 16, 15)]
    assert "The 2 best of the 7 test images with several annotated people" in whole[1].text


def test_captions_count_who_was_found_and_who_is_false(bare):
    captions = {
        words.split(":")[0][-7:-4]: words
        for words in pictures(page_of(bare, params(report=params().report.model_copy(update={"people": 9}))))
    }
    assert captions["011"].endswith(
        "; 2 of 2 people found"
    )  # the false one of next to no score does not count
    assert captions["016"].endswith("; 0 of 2 people found, 2 false")
    assert captions["019"].endswith(
        "; 2 of 2 people found, 1 false"
    )  # and who is found in the crowd is not false


def test_pictures_keep_their_shape(whole):
    for image in whole[1].all("img"):
        data = base64.b64decode(str(image["src"]).split(",", 1)[1], validate=True)
        height, width = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape[:2]
        assert (int(str(image["width"])), int(str(image["height"]))) == (width, height)
        assert width / height == pytest.approx(WIDTH / HEIGHT, rel=0.01)


def test_people_below_the_score_that_is_said_are_left_out(bare):
    path = bare / f"predictions/{TASK}.json"
    results = json.loads(path.read_text())
    expected = pictures(page_of(bare))
    path.write_text(json.dumps([result for result in results if result["score"] > 0.1]))
    sure = page_of(bare)
    assert pictures(sure) == expected
    assert "a score of at least 0.80" in sure.text


def test_where_nobody_is_found_the_truth_is_drawn(tmp_path):
    page = page_of(bared(workspace(tmp_path, nobody=True)))
    assert all(words.endswith("; 0 of 2 people found") for words in pictures(page))
    assert len(pictures(page)) == 4


def test_where_nobody_has_company_people_alone_are_drawn(bare):
    path = bare / "data/prepared/coco/annotations/validation.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["id"] % 10 == 0]
    path.write_text(json.dumps(content))
    page = page_of(bare)
    assert "test images with annotated people" in page.text
    assert all("of 1 people" in words for words in pictures(page))


def test_names_of_images_are_text_and_never_markup(tmp_path):
    page = page_of(bared(workspace(tmp_path, name="<b>{}&amp;.jpg")))
    assert not page.all("b")
    assert "val2017/<b>11&amp;.jpg" in page.text
    assert len(pictures(page)) == 4


# --- what is missing or strange
# ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["absent", "empty", "noise"])
def test_files_that_cannot_be_used_are_named(copy, how):
    for name in FILES:
        (copy / name).unlink()
        if how != "absent":
            (copy / name).write_bytes(b"" if how == "empty" else bytes(range(256)))
    page = page_of(copy)
    assert [name for name in FILES if name not in page.text] == []
    assert "Not comparable as they stand" in page.text
    assert "COCO test-dev" in page.text


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"images": [], "annotations": [], "categories": []}'])
def test_annotations_that_cannot_be_used_cost_the_pictures_only(bare, content):
    path = bare / "data/prepared/coco/annotations/validation.json"
    path.unlink() if content is None else path.write_text(content)
    page = page_of(bare)
    assert "annotations/validation.json" in page.text
    assert pictures(page) == []
    assert "learned from 1 images" in page.text


def test_predictions_of_other_images_are_named(bare):
    path = bare / f"predictions/{TASK}.json"
    path.write_text(
        path.read_text().replace('"image_id":11', '"image_id":1').replace('"image_id": 11', '"image_id": 1')
    )
    page = page_of(bare)
    assert f"predictions/{TASK}.json: image 1 is no test image of" in page.text
    assert pictures(page) == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[1]",
        '{"image_id": 1}',
        "3",
        '[{"image_id": 1, "score": 1, "keypoints": [1, 2, 3]}]',
        '[{"image_id": 1, "keypoints": []}]',
        '[{"image_id": "a", "score": 1, "keypoints": []}]',
    ],
)
def test_what_is_not_in_cocos_format_is_refused_by_name(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(
        UserError, match=r"a\.json: cannot be read as results in COCO's format, of 17 joints a person"
    ):
        read_results(tmp_path / "a.json", joints=17)


def test_joints_without_a_score_were_not_found(tmp_path):
    results = [{"image_id": 7, "score": score, "keypoints": [1, 2, 0.5, 3, 4, 0]} for score in (0.2, 0.6)]
    (tmp_path / "a.json").write_text(json.dumps(results))
    (people,) = read_results(tmp_path / "a.json", joints=2).values()
    np.testing.assert_array_equal(people.joint_PK2, [[[1, 2], [np.nan, np.nan]]] * 2)
    assert people.score_P.tolist() == [0.6, 0.2]  # the surest first


# --- honest words
# ------------------------------------------------------------------------------------------------------


def test_drawn_and_few_images_are_said_not_to_be_comparable(whole):
    assert (
        "Not comparable: this run learned from 1 images of data/synthetic and was tested on 9 others of it, all of them drawn"
        in whole[1].text
    )
    (small,) = caution("data/real", 1500, 200)
    assert small.startswith(
        "Not comparable: this run learned from 1,500 images of data/real and was tested on 200 others of it"
    )
    assert "photographed" in small
    assert "64,000" in small


def test_the_whole_of_coco_is_comparable_on_the_same_500_images():
    (words,) = caution("data", 61_000, 500)
    assert words.startswith("Trained on 61,000 images of data, tested on 500.")
    assert "comparable if these are those 500" in words
