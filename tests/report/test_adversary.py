"""What is shown of adversarial training, and of tasks with an adversary beside tasks without."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from helpers import ROOT

from pose.params import load_params
from pose.report.adversary import adversary_charts, comparisons, plain_task
from pose.report.run import read_run

TITLES = ["Reconstruction errors", "k_t", "Balance", "Convergence measure"]


@pytest.fixture
def pair_params(params_of):
    return params_of("hgpose", "advpose")


@pytest.fixture
def runs(single_root, pair_params):
    return {task: read_run(pair_params, task, single_root) for task in pair_params.tasks}


@pytest.fixture
def spec(pair_params):
    return pair_params.tasks["advpose"].adversary


def texts(chart):
    return re.findall(r">([^<>]+)</text>", chart.svg)


def test_adversarial_training_is_drawn_with_its_formulas(single_page, spec):
    titles = [title.removesuffix(", advpose") for title in single_page.charts if title.endswith(", advpose")]
    assert titles[-4:] == TITLES
    assert [title for title in titles if "loss" in title] == [
        "Training loss: heatmap",
        "Training loss: push",
        "Training loss",
    ]
    assert "k_t, hgpose" not in single_page.charts
    for words in (
        "k_t ← clip(k_t + balance_rate (gamma E(real) − E(fake)), 0, 1)",
        f"balance_rate {spec.balance_rate:g}, gamma {spec.gamma:g}",
        "E(real) + |gamma E(real) − E(fake)|",
    ):
        assert words in single_page.text


def test_both_errors_are_in_one_chart_from_where_adversarial_training_starts(runs, spec):
    train = runs["advpose"].train
    labels = texts(adversary_charts(train, spec, "advpose")[0])
    assert {"E(real)", "E(fake)", "3,000"} <= set(labels)
    assert "1,000" not in labels
    at_once = train.dropna().assign(step=lambda table: table["step"] - table["step"].min())
    assert "0" in texts(adversary_charts(at_once, spec, "advpose")[0])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_k_that_stays_at_an_end_is_drawn(runs, spec, value):
    train = runs["advpose"].train
    charts = adversary_charts(train.assign(k=train["k"] * 0 + value), spec, "advpose")
    assert [chart.title for chart in charts] == TITLES


def test_a_history_without_adversarial_steps_is_named(single_copy, params_of, page_of):
    path = single_copy / "metrics/plots/advpose/train.csv"
    path.write_text("step,lr,loss\n10,1,1\n")
    page = page_of(single_copy, params_of("advpose"))
    assert "metrics/plots/advpose/train.csv: no columns E_real, E_fake, k, balance, convergence" in page.text
    assert "k_t, advpose" not in page.charts


def test_a_task_with_an_adversary_stands_beside_its_plain_one(runs, pair_params):
    run = runs["advpose"]
    worse = replace(run, metrics=dict(run.metrics) | {"PCKh.0.5": run.metrics["PCKh.0.5"] - 1.5})
    (block,) = comparisons(pair_params, runs | {"advpose": worse})
    plain = run.metrics["PCKh.0.5"]
    rows = [[cell.text for cell in row.cells] for row in block.table.rows]
    assert block.title == "advpose beside hgpose"
    assert rows[0] == ["PCKh@0.5", f"{plain:.1f}", f"{plain - 1.5:.1f}", "−1.5"]
    assert rows[3][0] == "AUC"
    assert rows[3][3] == "0.0"
    assert rows[4] == ["Minutes of training", "4.2", "4.2", "0.0"]


def test_accuracy_on_training_and_on_held_out_people_is_drawn_for_both_in_one_chart(single_page):
    for samples in ("people trained on, at most 100", "people held out of training"):
        chart = single_page.charts[f"PCKh@0.5 on {samples}, hgpose and advpose"]
        assert {"hgpose", "advpose"} <= set(re.findall(r">([^<>]+)</text>", chart))
    assert "Adversarial training starts at the dashed line." in single_page.text


def test_histories_that_are_missing_cost_the_charts_alone(runs, pair_params):
    run = runs["hgpose"]
    without = replace(run, val=run.val.drop(columns="train PCKh@0.5"), train_time=None)
    (block,) = comparisons(pair_params, runs | {"hgpose": without})
    assert [chart.title for chart in block.charts] == ["AUC on people trained on, at most 100"] + [
        "PCKh@0.5 on people held out of training"
    ]
    assert [row.cells[0].text for row in block.table.rows] == ["PCKh@0.5", "PCK@0.2", "PCKh@0.1", "AUC"]
    (block,) = comparisons(pair_params, runs | {"hgpose": replace(run, val=None)})
    assert not block.charts
    assert comparisons(pair_params, {"advpose": runs["advpose"]}) == []


def test_pairs_are_found_by_what_they_are_and_not_by_name():
    given = load_params(ROOT / "params.yaml")
    pairs = {task: plain_task(given, task) for task in given.tasks}
    assert pairs == dict.fromkeys(given.tasks) | {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}
    longer = given.tasks["advpose"].model_copy(update={"epochs": 77})
    specs = [given.tasks["hgpose"], given.tasks["advpose"], given.tasks["advpose-ae"], longer]
    renamed = given.model_copy(update={"tasks": dict(zip("abcd", specs, strict=True))})
    assert [plain_task(renamed, task) for task in "abcd"] == [None, "a", None, None]
