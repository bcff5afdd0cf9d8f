"""The page is made from files of the kinds that the stages write; here with people whose best and worst are known."""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from helpers import ROOT
from report_helpers import FILES, PEOPLE, Page, params, report, without_curves, workspace

from pose.io.errors import UserError
from pose.params import load_params
from pose.report import machine_facts, revision
from pose.report.charts import INK, SERIES, Line, line_chart, smoothed
from pose.report.published import PUBLISHED
from pose.report.single import caution

# --- what the stages leave
# ---------------------------------------------------------------------------------------------


# --- reading the page
# --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Page]:
    root = workspace(tmp_path_factory.mktemp("whole"))
    return root, report(root)


# --- the page as a whole
# -----------------------------------------------------------------------------------------------


def test_the_page_is_whole_and_needs_no_other_file(whole):
    _, page = whole
    assert page.source.startswith("<!DOCTYPE html>")
    assert not page.all("script")
    assert not page.all("link")
    assert "url(http" not in page.source
    for image in page.all("img"):
        kind, data = str(image["src"]).split(",", 1)
        assert kind == "data:image/jpeg;base64"
        picture = cv2.imdecode(
            np.frombuffer(base64.b64decode(data, validate=True), np.uint8), cv2.IMREAD_COLOR
        )
        assert picture.shape[:2] == (int(str(image["height"])), int(str(image["width"])))
        assert image["alt"]


def test_several_tasks_share_a_page_and_its_ids_and_links_stay_sound(tmp_path):
    given = params()
    given = given.model_copy(
        update={"tasks": dict.fromkeys(("hgpose", "advpose", "hgpose 2"), given.tasks["hgpose"])}
    )
    page = report(workspace(tmp_path, ("hgpose", "hgpose 2")), given)
    assert "advpose not evaluated yet" in page.text
    ids = Counter(attributes["id"] for _, attributes in page.tags if "id" in attributes)
    assert {name for name, count in ids.items() if count > 1} == set()
    links = [str(attributes.get("href") or attributes.get("xlink:href") or "") for _, attributes in page.tags]
    within = {link[1:] for link in links if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", page.source)
    )
    assert within <= set(ids)
    assert {link for link in links if link and not link.startswith("#")} <= {row.url for row in PUBLISHED}


def test_it_says_what_the_stages_found(whole):
    root, page = whole
    figures = json.loads((root / "metrics/hgpose.json").read_text())
    for table, key, title in (
        ("PCKh", "0.5", "PCKh@0.5"),
        ("PCKh", "0.1", "PCKh@0.1"),
        ("PCKh", "AUC", "AUC"),
        ("PCK", "0.2", "PCK@0.2"),
    ):
        assert f"{title} {figures[table][key]:.1f}" in page.text
    batch = load_params(ROOT / "params.yaml").tasks["hgpose"].batch
    for expected in (
        "4 min 10 s",
        f"5,000 of {batch} people",
        "abc1234-dirty",
        "PyTorch 2.11.0",
        "CPU, 2 cores",
        "right ankle",
        "push",
    ):
        assert expected in page.text
    assert "4 of LSP, 4 of LSPET, 4 of MPII" in page.text
    assert "Missing here" not in page.text


def test_our_figures_stand_beside_the_published_ones_and_their_sources(whole):
    _, page = whole
    for expected in (
        "hgpose, this run",
        "90.9 98.2 96.3 91.2 87.1 90.1 87.4 83.6",
        "91.8 98.2 96.8",
        "Newell et al. 2016",
        "Chou et al. 2017",
    ):
        assert expected in page.text
    assert "COCO test-dev" not in page.text  # of multi-person tasks


def test_published_figures_are_as_the_papers_print_them():
    assert [row.figures["Mean"] for row in PUBLISHED if row.problem == "single"] == [
        90.9,
        91.8,
        88.1,
        87.33,
        88.78,
        90.2,
    ]
    assert [row.figures["AP"] for row in PUBLISHED if row.problem == "multi"] == [
        0.566,
        0.630,
        0.655,
        0.593,
        0.518,
    ]


def test_the_best_and_the_worst_people_are_drawn_in_order(whole):
    _, page = whole
    # The further down the prepared file, the further off: rows 1, 3, ... were tested.
    names = [str(image["alt"]).split(":")[0] for image in page.all("img")]
    assert names == [
        "LSP/images/im0001.jpg",
        "LSPET/images/im0003.jpg",
        "mpii/images/im0023.jpg",
        "LSPET/images/im0021.jpg",
    ]
    assert page.text.count("14 of 14 joints right") == 2
    assert page.text.count("0 of 14 joints right") == 2


def test_every_parameter_is_on_the_page(whole):
    _, page = whole
    for expected in (
        "lr_scale 1.0",
        "network.stacks",
        "augment.rotation.deg",
        "data root",
        "seed",
        "validate_every",
        "jpeg_quality",
    ):
        assert expected in page.text


def test_the_summary_has_one_row_a_task(whole):
    root, _ = whole
    lines = (root / "report/summary.md").read_text().splitlines()
    assert lines[0].count("|") == lines[1].count("|") == lines[2].count("|") == 5
    assert lines[2].startswith("| hgpose | PCKh@0.5 ")
    assert "abc1234-dirty" in lines[-1]


def test_nothing_but_the_two_files_is_left_in_the_folder(whole):
    root, _ = whole
    assert {path.name for path in (root / "report").iterdir()} == {"index.html", "summary.md"}


def test_the_same_files_make_the_same_page(whole):
    root, page = whole
    assert report(root).source == page.source


def test_names_are_text_and_never_markup(tmp_path):
    evil = '<img src=x onerror="alert(1)">|'
    given = params(data=params().data.model_copy(update={"root": evil}))
    given = given.model_copy(update={"tasks": dict.fromkeys(("hgpose", "<u>hg"), given.tasks["hgpose"])})
    root = without_curves(
        workspace(tmp_path, names=[f"LSP/images/<b>{row}&amp;.jpg" for row in range(PEOPLE)])
    )
    (root / "metrics/plots/<u>hg").mkdir()
    (root / "metrics/plots/<u>hg/accuracy.csv").write_text("threshold,unit,Mean\n0,<b>,0\n0.5,<b>,50\n")
    (root / "metrics/<u>hg.json").write_text('{"PCKh": {"0.5": 50}}')
    page = report(root, given, revision="<s>")
    assert not page.all("b") + page.all("u") + page.all("s")
    assert len(page.all("img")) == 4
    assert all(str(image["src"]).startswith("data:") for image in page.all("img"))
    for name in (evil, "<u>hg", "LSP/images/<b>1&amp;.jpg"):
        assert name in page.text
    assert "\\|" in (root / "report/summary.md").read_text()


# --- what is missing or short
# ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["absent", "empty", "header", "noise"])
def test_files_that_cannot_be_used_are_named(tmp_path, how):
    root = workspace(tmp_path)
    for name in FILES:
        if how == "absent":
            (root / name).unlink()
        elif how == "header" and name.endswith(".csv"):
            (root / name).write_text((root / name).read_text().splitlines()[0] + "\n")
        else:
            (root / name).write_bytes(b"" if how == "empty" else bytes(range(256)))
    page = report(root)
    assert "Missing here" in page.text
    assert [name for name in FILES if name not in page.text] == []
    assert "PCKh@0.5" in page.text


def test_what_one_missing_file_does_not_touch_is_shown(tmp_path):
    root = workspace(tmp_path)
    (root / "metrics/plots/hgpose/train.csv").unlink()
    page = report(root)
    assert "metrics/plots/hgpose/train.csv: no such file" in page.text
    assert "Validation accuracy over steps" in page.text
    assert len(page.all("img")) == 4


def test_a_history_of_one_row_is_drawn(tmp_path):
    plots = workspace(tmp_path) / "metrics/plots/hgpose"
    (plots / "train.csv").write_text("step,lr,heatmap,loss\n10,0.001,0.5,0.5\n")
    (plots / "val.csv").write_text("step,epoch,PCKh@0.5\n10,0.1,1.5\n")
    page = report(tmp_path)
    assert "Validation accuracy over steps" in page.text
    assert "Missing here" not in page.text


def test_gaps_words_and_repeated_steps_in_a_history_do_no_harm(tmp_path):
    plots = workspace(tmp_path) / "metrics/plots/hgpose"
    (plots / "train.csv").write_text(
        "step,lr,heatmap,note\n10,0.001,,x\n20,0.001,inf,y\n10,0.001,0.5,z\n30,,0.2,\n"
    )
    (plots / "val.csv").write_text("step,epoch,PCKh@0.5,PCK@0.2\n10,0.1,,\n20,0.2,nan,5\n")
    page = report(tmp_path)
    assert "Training loss: heatmap" in page.text
    assert "note" not in [word.strip() for word in page.words]


def test_predictions_for_another_prepared_file_are_named(tmp_path):
    with h5py.File(without_curves(workspace(tmp_path)) / "predictions/hgpose.h5", "a") as file:
        file["row"][-1] = PEOPLE
    assert f"rows up to {PEOPLE}" in report(tmp_path).text


def test_figures_of_no_task_at_all_are_the_users_to_make(tmp_path):
    with pytest.raises(
        UserError, match=r"no figures of any task, expected metrics/hgpose.json: run `dvc repro` first"
    ):
        report(tmp_path)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"PCKh": {"0.5": "high"}}', '{"PCKh": {"0.5": NaN}}'])
def test_damaged_figures_stop_the_report_naming_the_file(tmp_path, content):
    (workspace(tmp_path) / "metrics/hgpose.json").write_text(content)
    with pytest.raises(UserError, match=r"metrics/hgpose\.json: "):
        report(tmp_path)


def test_only_torso_figures_still_make_a_page(tmp_path):
    root = without_curves(workspace(tmp_path))
    figures = json.loads((root / "metrics/hgpose.json").read_text())
    del figures["PCKh"]
    (root / "metrics/hgpose.json").write_text(json.dumps(figures))
    page = report(root)
    assert "PCK@0.2" in page.text
    assert "within half a head size" not in page.text


# --- honest words
# ------------------------------------------------------------------------------------------------------


def test_drawn_and_small_data_are_said_not_to_be_comparable(whole):
    drawn = "Not comparable: this run learned from 12 people of data/synthetic and was tested on 12 others of it, all of them drawn"
    assert drawn in whole[1].text
    (small,) = caution("data/real", {"mpii": 300}, {"mpii": 40})
    assert small.startswith(
        "Not comparable: this run learned from 300 people of data/real and was tested on 40 others of it"
    )
    assert "photographed" in small
    (unknown,) = caution("data/real", {}, {})
    assert unknown.startswith("Not comparable")


def test_the_whole_of_mpii_is_comparable_on_its_validation_people():
    (words,) = caution("data", {"mpii": 22_246, "lsp": 1000}, {"mpii": 2958})
    assert words.startswith("Trained on 23,246 people of data, tested on 2,958.")
    assert "comparable if these are its published validation people" in words


def test_crops_around_labelled_joints_are_owned_up_to(whole):
    assert "LSPET people are cropped around their labelled joints" in whole[1].text


# --- charts
# ------------------------------------------------------------------------------------------------------------


def test_a_chart_takes_its_colours_from_the_page_and_keeps_its_ids_apart():
    x = np.arange(5.0)
    lines = [Line("a<b", x, x, SERIES[0]), Line("$c$", x, 2 * x, INK, bold=True)]
    one, two = (line_chart(lines, name=name, title='a "title"', x_label="step") for name in ("one", "two"))
    assert one.replace("one-", "two-").count("two-") == two.count("two-")
    assert not set(re.findall(r'id="([^"]+)"', one)) & set(re.findall(r'id="([^"]+)"', two))
    assert "var(--series-0)" in one
    assert "currentColor" in one
    assert not re.search("#0[0-9]0[0-9]0[0-9]", one)
    assert "a&lt;b" in one
    assert "$c$" in one
    assert 'aria-label="a &#34;title&#34;"' in one
    Page.of(one)


@pytest.mark.parametrize("value", [0.0, 1e-12, 1e12, -3.0])
def test_flat_lines_of_any_height_can_be_drawn(value):
    line_chart(
        [Line("a", np.arange(3.0), np.full(3, value))], name="n", title="t", x_label="x", log=value > 0
    )


def test_numbers_beside_a_logarithmic_axis_are_plain():
    drawn = line_chart(
        [Line("a", np.arange(3.0), np.array([0.02, 0.3, 40]))], name="n", title="t", x_label="x", log=True
    )
    labels = re.findall(r">([^<>]*)</text>", drawn)
    assert {"0.1", "1", "10"} <= set(labels)
    assert not any("$" in label for label in labels)


def test_smoothing_keeps_a_level_and_calms_noise():
    np.testing.assert_allclose(smoothed(np.full(50, 3.0)), 3)
    noise = np.random.default_rng(0).normal(0, 1, 500)
    assert smoothed(noise).std() < 0.4 * noise.std()


# --- where it was made
# -------------------------------------------------------------------------------------------------


def test_outside_of_a_checkout_the_revision_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert revision(tmp_path) == "unknown"


def test_the_machine_is_described_in_words():
    facts = machine_facts()
    assert set(facts) == {"PyTorch", "Device", "Python", "System"}
    assert all(facts.values())
