"""What is shown of adversarial training, and of tasks with an adversary beside tasks without."""

import re
from dataclasses import replace

import pytest
from helpers import ROOT

from pose.params import load_params
from pose.report.adversary import adversary_charts, families, plain_task
from pose.report.run import read_run
from pose.report.section import task_section

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
    assert titles == TITLES
    assert [title for title in single_page.charts if "loss" in title] == [
        f"Training loss{term}, hgpose and advpose" for term in (": heatmap", ": push", "")
    ]
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


def blocks_of(*runs):
    section, _ = task_section(runs, None, [], 1)
    return {block.title: block for block in section.blocks}


def test_a_task_with_an_adversary_stands_beside_its_plain_one(runs, pair_params):
    run = runs["advpose"]
    worse = replace(run, metrics=dict(run.metrics) | {"PCKh.0.5": run.metrics["PCKh.0.5"] - 1.5})
    ((one, other),) = families(pair_params, {"advpose": worse, "hgpose": runs["hgpose"]})
    assert (one.task, other.task) == ("hgpose", "advpose")
    blocks = blocks_of(one, other)
    plain = run.metrics["PCKh.0.5"]
    rows = [[cell.text for cell in row.cells] for row in blocks["Metrics"].table.rows]
    assert rows[0] == ["PCKh@0.5", f"{plain:.1f}", f"{plain - 1.5:.1f}", "−1.5"]
    assert rows[3][0] == "AUC"
    assert rows[3][3] == "0.0"
    training = [[cell.text for cell in row.cells] for row in blocks["Training"].table.rows]
    assert training[0] == ["Training time", "4 min 10 s", "4 min 10 s"]
    assert [len(family) for family in families(pair_params, {"advpose": run})] == [1]


def test_several_tasks_with_an_adversary_stand_beside_their_plain_one(runs, pair_params):
    adversary = pair_params.tasks["advpose"].adversary.model_copy(update={"weight": 0.123})
    weak = pair_params.tasks["advpose"].model_copy(update={"adversary": adversary})
    params = pair_params.model_copy(update={"tasks": pair_params.tasks | {"weak": weak}})
    family = [replace(run, params=params) for run in runs.values()]
    paths = replace(family[1].paths, task="weak")
    metrics = dict(family[1].metrics) | {"PCKh.0.5": family[1].metrics["PCKh.0.5"] - 1.5}
    family.append(replace(family[1], paths=paths, metrics=metrics))
    assert families(params, {run.task: run for run in family}) == [family]
    assert len({run.colour for run in family}) == 3
    table = blocks_of(*family)["Metrics"].table
    assert table.columns[4:] == ("advpose - hgpose", "weak - hgpose")
    assert [cell.text for cell in table.rows[0].cells[4:]] == ["0.0", "−1.5"]


def test_the_time_of_another_run_is_not_shown(single_copy, pair_params):
    assert read_run(pair_params, "hgpose", single_copy).training_time == "4 min 10 s"
    path = single_copy / "checkpoints/hgpose/train_time.csv"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    assert read_run(pair_params, "hgpose", single_copy).training_time == "unknown"


@pytest.mark.parametrize("title", ["PCKh@0.5 over steps", "Accuracy over the threshold", "Training loss"])
def test_what_both_have_is_drawn_on_one_axis(single_page, title):
    chart = single_page.charts[f"{title}, hgpose and advpose"]
    assert {"hgpose", "advpose"} <= set(re.findall(r">([^<>]+)</text>", chart))


def test_validation_is_drawn_with_what_was_trained_on_and_where_the_adversary_starts(single_page):
    chart = single_page.charts["PCKh@0.5 over steps, hgpose and advpose"]
    (values,) = re.findall(r"<title>(step 2,500\n[^<]*)</title>", chart)
    expected = ["hgpose 22.5", "hgpose, trained on 24.75", "advpose 22.5", "advpose, trained on 24.75"]
    assert values.splitlines()[1:] == expected
    assert chart.count("stroke-dasharray") == 3  # two lines, and the start
    assert "Adversarial training starts at the grey line." in single_page.text


def test_histories_that_are_missing_cost_the_charts_alone(runs):
    plain, other = runs["hgpose"], runs["advpose"]
    without = replace(plain, val=plain.val.drop(columns="train PCKh@0.5"), train_time=None)
    blocks = blocks_of(without, other)
    assert "hgpose, trained on" not in blocks["Curves"].charts[0].svg
    assert "PCKh@0.5 over time" not in [chart.title for chart in blocks["More curves"].charts]
    assert blocks["Training"].table.rows[0].cells[1].text == "unknown"
    blocks = blocks_of(replace(plain, val=None), replace(other, val=None))
    assert blocks["Curves"].charts[0].title == "Accuracy over the threshold"
    assert len(blocks["Metrics"].table.rows) == 4


def test_pairs_are_found_by_what_they_are_and_not_by_name():
    given = load_params(ROOT / "params.yaml")
    pairs = {task: plain_task(given, task) for task in given.tasks}
    assert pairs == dict.fromkeys(given.tasks) | {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}
    longer = given.tasks["advpose"].model_copy(update={"epochs": 77})
    specs = [given.tasks["hgpose"], given.tasks["advpose"], given.tasks["advpose-ae"], longer]
    renamed = given.model_copy(update={"tasks": dict(zip("abcd", specs, strict=True))})
    assert [plain_task(renamed, task) for task in "abcd"] == [None, "a", None, None]
