"""The page as a whole: what every task has, what may be missing, and the files beside it."""

import base64
import json
import re
import shutil
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from helpers import commit_all, user_error

from pose.data.person_set import PersonSet
from pose.io.files import write_json
from pose.models.networks import SimpleBaselineParams
from pose.params.data import DataParams
from pose.report.published import PUBLISHED
from pose.tasks.fingerprint import fingerprint


@pytest.mark.parametrize("page", ["single_page", "multi_page"])
def test_the_page_is_whole_and_needs_no_other_file(page, request):
    page = request.getfixturevalue(page)
    assert page.source.startswith("<!DOCTYPE html>")
    assert not page.all("script") + page.all("link")
    assert "url(http" not in page.source
    assert "Missing here" not in page.text
    for image in page.all("img"):
        kind, data = str(image["src"]).split(",", 1)
        data_N = np.frombuffer(base64.b64decode(data, validate=True), np.uint8)
        pixels = cv2.imdecode(data_N, cv2.IMREAD_COLOR)
        assert kind == "data:image/jpeg;base64"
        assert pixels.shape[:2] == (int(str(image["height"])), int(str(image["width"])))


def test_tasks_share_a_page_whose_ids_and_links_are_sound(single_page):
    assert "hgpose-ae not evaluated yet" in single_page.text
    tags = [attributes for _, attributes in single_page.tags]
    ids = Counter(attributes["id"] for attributes in tags if "id" in attributes)
    assert set(ids.values()) == {1}
    links = {str(attributes.get("href") or attributes.get("xlink:href") or "") for attributes in tags} - {""}
    within = {link[1:] for link in links if link.startswith("#")}
    assert within | set(re.findall(r"url\(#([^)]+)\)", single_page.source)) <= set(ids)
    assert {link for link in links if not link.startswith("#")} <= {row.url for row in PUBLISHED}


def test_metrics_facts_and_parameters_are_on_the_page(single_page, single_root):
    metrics = json.loads((single_root / "metrics/hgpose.json").read_text())
    for words in (
        f"PCKh@0.5 within half a head size {metrics['PCKh']['0.5']:.1f}",
        f"PCK@0.2 within a fifth of the reference length {metrics['PCK']['0.2']:.1f}",
        "Training time 4 min 10 s 4 min 10 s Steps 5,000 of 16 people 5,000 of 16 people Epochs 10 of 11",
        "Learning rate 0.02 at its peak (0.02 × 1) 0.02 at its peak (0.02 × 1) Test-time augmentation mirror",
        "Test-time augmentation mirror image mirror image Weights evaluated of the",
        "augment.rotation.deg 30.0",
        "milestones none",
        "channels_last true",
        f"PyTorch {torch.__version__} Python",
    ):
        assert words in single_page.text
    curves = "PCKh@0.5 over steps", "PCKh@0.5 over time", "Learning rate", "Training loss: push"
    assert {f"{title}, hgpose and advpose" for title in curves} <= set(single_page.charts)


def test_the_summary_has_a_line_for_each_task(single_page, single_root):
    pckh = json.loads((single_root / "metrics/advpose.json").read_text())["PCKh"]
    lines = (single_root / "report/summary.md").read_text().splitlines()
    assert {line.count("|") for line in lines[:4]} == {8}
    assert lines[0].startswith("| One person | PCKh@0.5 | PCK@0.2 |")
    assert lines[2].startswith(f"| hgpose | {pckh['0.5']:.1f} | ")
    assert lines[2].endswith("| 26 people, 16 for PCKh, 10 for PCK | 4 min 10 s |")
    assert {path.name for path in (single_root / "report").iterdir()} == {"index.html", "summary.md"}


def test_the_summary_says_what_is_unknown(params_of, page_of, bare_root, monkeypatch):
    monkeypatch.chdir(bare_root)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(bare_root.parent))
    assert "Revision: unknown." in page_of(bare_root, params_of("hgpose")).text
    assert "| hgpose | 50.0 | unknown | unknown |" in (bare_root / "report/summary.md").read_text()


def test_a_metric_has_its_change_since_the_last_commit_if_it_changed(bare_root, params_of, page_of):
    path = bare_root / "metrics/hgpose.json"
    assert "last commit" not in page_of(bare_root, params_of("hgpose")).text
    commit_all("first", bare_root)
    assert "last commit" not in page_of(bare_root, params_of("hgpose")).text
    path.write_text('{"PCKh": {"0.5": 49.99}}')
    assert "last commit" not in page_of(bare_root, params_of("hgpose")).text, "50.0 as before"
    path.write_text('{"PCKh": {"0.5": 48.5, "0.1": 20}}')
    page = page_of(bare_root, params_of("hgpose"))
    assert "hgpose 48.5 −1.5 20.0 unknown unknown In small type: the change since the last" in page.text
    assert "| hgpose | 48.5 (−1.5) | 20.0 |" in (bare_root / "report/summary.md").read_text()


def test_the_same_files_make_the_same_page(multi_page, multi_root, params_of, page_of):
    assert page_of(multi_root, params_of("hgpose-ae")).source == multi_page.source


def test_both_problems_share_a_page_and_each_brings_its_data(single_copy, multi_copy, params_of, page_of):
    shutil.rmtree(single_copy / "metrics/plots")  # the copies are in one folder
    both = page_of(single_copy, params_of("hgpose", "hgpose-ae")).text
    assert "LSPET 14 2 0 0 16" in both
    assert re.search(r"Train 15 15 \d+ Validation 8 7 19", both)
    assert "1 training images are held out" in both
    (single_copy / "data/prepared/lsp_mpii.h5").unlink()
    both = page_of(single_copy, params_of("hgpose", "hgpose-ae")).text
    assert both.count("data/prepared/lsp_mpii.h5: no such file") == 2  # at the task, and at the data
    assert "Train 15 15" in both


def test_a_network_of_any_kind_makes_a_page(bare_root, multi_copy, params_of, page_of):
    network = SimpleBaselineParams(kind="simple_baseline", stem=8, widths=[8, 16], blocks=2, upsampled=8)
    params = params_of("hgpose", "hgpose-ae")
    tasks = {name: spec.model_copy(update={"network": network}) for name, spec in params.tasks.items()}
    page = page_of(bare_root, params.model_copy(update={"tasks": tasks}))
    for sample in ("one person per crop", "all people of an image"):
        assert f"{sample}; simple baseline of 2 stages (8, 16 channels), 2 blocks each" in page.text
    assert len(page.captions) == 4


def test_names_are_text_and_never_markup(single_copy, params_of, page_of, monkeypatch):
    evil = '<img src=x onerror="alert(1)">|'
    params = params_of("hgpose")
    tasks = dict.fromkeys(("hgpose", "<u>|hg"), params.tasks["hgpose"])
    params = params.model_copy(update={"tasks": tasks, "data": params.data.model_copy(update={"root": evil})})
    plots = single_copy / "metrics/plots/<u>|hg"
    plots.mkdir()
    (plots / "accuracy.csv").write_text("threshold,unit,<q>,Mean\n0,<b>,0,0\n0.5,<b>,50,50\n")
    (single_copy / "metrics/<u>|hg.json").write_text('{"PCKh": {"0.5": 50}}')
    monkeypatch.setattr(PersonSet, "name", lambda self, row: f"<b>{row}&amp;.jpg")
    monkeypatch.setattr("pose.report.page.run_git", lambda *words: "<s>")
    page = page_of(single_copy, params)
    assert not page.all("b") + page.all("u") + page.all("s") + page.all("q")
    assert [str(image["src"])[:5] for image in page.all("img")] == ["data:"] * len(page.all("img"))
    assert all(name in page.text for name in (evil, "<u>|hg", "<q>", "&amp;.jpg", "Revision: <s>"))
    assert "| <u>\\|hg |" in (single_copy / "report/summary.md").read_text()


@pytest.mark.parametrize("how", ["absent", "empty", "header", "noise"])
@pytest.mark.parametrize(
    ("task", "files", "curve"),
    [
        ("hgpose", ["data/prepared/lsp_mpii.h5", "predictions/hgpose.h5"], "accuracy"),
        ("hgpose-ae", ["data/prepared/coco/coco.h5", "predictions/hgpose-ae.json"], "precision"),
    ],
)
def test_files_that_cannot_be_used_are_named(task, files, curve, how, request, tmp_path, params_of, page_of):
    root = request.getfixturevalue("multi_root" if task == "hgpose-ae" else "single_root")
    files = files + [f"metrics/plots/{task}/{name}.csv" for name in ("train", "val", "joints", curve)]
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if how == "header" and name.endswith(".csv"):
            (tmp_path / name).write_text((root / name).read_text().splitlines()[0] + "\n")
        elif how != "absent":
            (tmp_path / name).write_bytes(b"" if how == "empty" else bytes(range(256)))
    shutil.copy(root / f"metrics/{task}.json", tmp_path / "metrics")
    page = page_of(tmp_path, params_of(task))
    assert [name for name in files if f"{name}: " not in page.text] == []
    assert "Not comparable as they stand: the data of this run is not known here." in page.text
    assert re.search(rf"{task}, (PCKh@0.5|this run) data/synthetic, \d+ (people|images) \d", page.text)


def test_what_a_missing_file_does_not_touch_is_shown(single_copy, params_of, page_of):
    single_row = "step,epoch,PCKh@0.5\n10,0.1,1.5\n"
    (single_copy / "metrics/plots/hgpose/val.csv").write_text(single_row)
    page = page_of(single_copy, params_of("hgpose"))
    assert "Missing here" in page.text
    assert "metrics/plots/hgpose/train.csv: no such file" in page.text
    curves = "PCKh@0.5 over steps", "Accuracy over the threshold"
    assert set(page.charts) == {f"{title}, hgpose" for title in curves}
    assert len(page.captions) == 4


def test_parameters_that_have_changed_since_the_training_are_said(single_copy, params_of, page_of):
    params, words = params_of("hgpose"), "hgpose: trained by other parameters than this page shows: "
    trained = fingerprint(params, "hgpose", "") | {"epochs": params.task("hgpose").epochs}
    path = single_copy / "metrics/provenance/hgpose.json"
    write_json(path, {"trained": trained})
    assert words not in page_of(single_copy, params).text
    write_json(path, {"trained": trained | {"lr": 0.5}})
    assert f"{words}lr was 0.5, is {params.lr}" in page_of(single_copy, params).text


def test_the_data_is_that_of_the_training_whatever_the_parameters_have_now(single_copy, params_of, page_of):
    params = params_of("hgpose").model_copy(update={"data": DataParams(root="data/real")})
    path = single_copy / "metrics/provenance/hgpose.json"
    write_json(path, {"trained": {"source": "data/synthetic"}})
    text = page_of(single_copy, params).text
    assert "Data: data/synthetic." in text
    assert "all synthetic" in text
    assert "data was of data/synthetic, is of data/real" in text


def test_without_metrics_of_any_task_there_is_no_report(tmp_path, params_of, page_of):
    with user_error(r"of no task, expected metrics/hgpose\.json: run `dvc repro` first"):
        page_of(tmp_path, params_of("hgpose"))
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "content", ["", "[]", '{"PCKh": 1}', '{"PCKh": {"0.5": "high"}}', '{"PCKh": {"0.5": NaN}}']
)
def test_damaged_metrics_stop_the_report_naming_the_file(content, params_of, page_of, bare_root):
    (bare_root / "metrics/hgpose.json").write_text(content)
    with user_error(r"metrics/hgpose\.json: "):
        page_of(bare_root, params_of("hgpose"))
