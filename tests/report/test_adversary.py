"""What the page shows of the adversary.

The game, tasks with one beside tasks without, and the study of many runs.
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers import ROOT
from report_helpers import Page, report, workspace

from pose.io.errors import UserError
from pose.params import Params, load_params
from pose.report.adversary import GAME, plain_task
from pose.report.charts import SERIES, Line, line_chart
from pose.report.study import study_blocks

START = 2500  # the step after which the game begins
COLUMNS = "study,task,seed,epochs,weight,start,gamma,balance_rate,figure,value,train_value,E_real,E_fake,k"


# --- what the stages leave
# ---------------------------------------------------------------------------------------------


def params(*tasks: str) -> Params:
    given = load_params(ROOT / "params.yaml")
    report = given.report.model_copy(update={"people": 1})
    return given.model_copy(
        update={
            "tasks": {task: given.tasks[task] for task in tasks or ("hgpose", "advpose")},
            "report": report,
        }
    )


def play(root: Path, task: str, *, start: int = START) -> None:
    """Add to a history what an adversary writes into it, from the step after `start`."""
    path = root / f"metrics/plots/{task}/train.csv"
    table = pd.read_csv(path)
    played, step = table["step"] > start, table["step"]
    for name, values in zip(
        GAME, (1 / step, 20 / step, step / 10_000, -19.5 / step, 20.5 / step), strict=True
    ):
        table[name] = values.where(played)
    table.to_csv(path, index=False)


def watch_training(root: Path, task: str, more: float) -> None:
    """Add to a history figures on what is trained on."""
    path = root / f"metrics/plots/{task}/val.csv"
    table = pd.read_csv(path)
    table["train PCKh@0.5"] = table["PCKh@0.5"] + more
    table.to_csv(path, index=False)


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of hgpose and one of advpose, without the bulk of what is not looked at here."""
    root = workspace(tmp_path_factory.mktemp("played"), ("hgpose", "advpose"))
    path = root / "metrics/advpose.json"
    figures = json.loads(path.read_text())
    figures["PCKh"]["0.5"] -= 1.5
    path.write_text(json.dumps(figures))
    play(root, "advpose")
    for task, more in (("hgpose", 5), ("advpose", 6)):
        watch_training(root, task, more)
        for name in ("accuracy", "joints"):
            (root / f"metrics/plots/{task}/{name}.csv").unlink()
        (root / f"predictions/{task}.h5").unlink()
    return root


@pytest.fixture
def copy(played: Path, tmp_path: Path) -> Path:
    """To change something in."""
    shutil.copytree(played, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture(scope="module")
def page(played: Path) -> Page:
    return report(played, params())


def charts(page: Page) -> list[str]:
    return [str(attributes["aria-label"]) for attributes in page.all("svg")]


# --- the game
# ----------------------------------------------------------------------------------------------------------


def test_the_game_is_drawn_with_its_formulas(page):
    drawn = [title for title in charts(page) if title.endswith(", advpose")]
    assert {
        f"{name}, advpose" for name in ("Repainting errors", "k_t", "Balance", "Convergence measure")
    } <= set(drawn)
    game = params().tasks["advpose"].adversary
    assert game is not None
    for words in (
        "k_t ← clip(k_t + balance_rate (gamma E(real) − E(fake)), 0, 1)",
        f"balance_rate {game.balance_rate:g}, gamma {game.gamma:g}",
        "E(real) + |gamma E(real) − E(fake)|",
    ):
        assert words in page.text


def test_figures_of_the_game_are_no_losses(page):
    losses = [
        title for title in charts(page) if title.startswith("Training loss") and title.endswith(", advpose")
    ]
    assert losses == [f"Training loss{term}, advpose" for term in (": heatmap", ": push", "")]


def test_both_repainting_errors_are_in_one_chart_from_where_the_game_begins(page):
    (chart,) = (chart for chart in page.source.split("<svg") if 'aria-label="Repainting errors' in chart)
    labels = re.findall(r">([^<>]+)</text>", chart)
    assert {"E(real)", "E(fake)", "3,000"} <= set(labels)
    assert "1,000" not in labels


def test_a_task_without_an_adversary_has_no_game(page):
    assert page.source.count("The game against the adversary</h3>") == 1
    assert not [title for title in charts(page) if title == "k_t, hgpose"]


def test_a_game_that_begins_at_once_is_drawn_from_the_first_step(copy):
    play(copy, "advpose", start=0)
    page = report(copy, params())
    (chart,) = (chart for chart in page.source.split("<svg") if 'aria-label="Repainting errors' in chart)
    assert ">0</text>" in chart
    assert "broken line" not in page.text


def test_a_history_that_knows_of_no_game_is_named(copy):
    play(copy, "advpose", start=10**6)
    page = report(copy, params())
    assert "metrics/plots/advpose/train.csv: no columns E_real, E_fake, k, balance, convergence" in page.text
    assert "The game against the adversary" not in page.text
    assert "advpose beside hgpose" in page.text


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_k_that_stays_at_an_end_is_drawn(copy, value):
    path = copy / "metrics/plots/advpose/train.csv"
    table = pd.read_csv(path)
    table["k"] = table["k"].where(table["k"].isna(), value)
    table.to_csv(path, index=False)
    assert "k_t, advpose" in charts(report(copy, params()))


# --- with and without
# --------------------------------------------------------------------------------------------------


def test_a_task_with_an_adversary_stands_beside_its_plain_one(played, page):
    plain, other = (
        json.loads((played / f"metrics/{task}.json").read_text())["PCKh"]["0.5"]
        for task in ("hgpose", "advpose")
    )
    assert (
        f"PCKh@0.5 {plain:.1f} without the adversary, {other:.1f} with it: a difference of −1.5" in page.text
    )
    assert f"PCKh@0.5, tested {plain:.1f} {other:.1f} −1.5" in page.text
    assert re.search(r"AUC, tested ([\d.]+) \1 0\.0", page.text)
    assert "Minutes of training 4.2 4.2 0.0" in page.text
    assert "90.9 Newell et al. 2016 91.8 Chou et al. 2017 +0.9" in page.text


def test_accuracy_on_what_was_trained_on_and_held_out_is_drawn_for_both_in_one_chart(page):
    for over in ("people trained on", "people held out of training"):
        (chart,) = (
            chart
            for chart in page.source.split("<svg")
            if f'aria-label="PCKh@0.5 on {over}, hgpose and advpose"' in chart
        )
        assert {"hgpose", "advpose"} <= set(re.findall(r">([^<>]+)</text>", chart))
    assert "The game begins at the broken line." in page.text
    assert "0.80 after 200,000" in page.text


def test_without_figures_on_what_was_trained_on_only_the_held_out_ones_are_drawn(copy):
    for task in ("hgpose", "advpose"):
        path = copy / f"metrics/plots/{task}/val.csv"
        pd.read_csv(path).drop(columns="train PCKh@0.5").to_csv(path, index=False)
    page = report(copy, params())
    titles = [title for title in charts(page) if title.endswith("hgpose and advpose")]
    assert titles == ["PCKh@0.5 on people held out of training, hgpose and advpose"]


def test_where_one_of_two_tasks_is_missing_nothing_is_compared(copy):
    (copy / "metrics/hgpose.json").unlink()
    page = report(copy, params())
    assert "The game against the adversary" in page.text
    assert "What the adversary brings" not in page.text


def test_histories_that_are_missing_cost_the_charts_alone(copy):
    (copy / "metrics/plots/hgpose/val.csv").unlink()
    (copy / "metrics/plots/advpose/train.csv").unlink()
    (copy / "checkpoints/hgpose/clock.csv").unlink()
    page = report(copy, params())
    assert "a difference of −1.5" in page.text
    assert not [title for title in charts(page) if title.endswith("hgpose and advpose")]
    assert "Minutes of training" not in page.text


def test_pairs_are_found_by_what_they_are_and_not_by_name():
    given = load_params(ROOT / "params.yaml")
    assert [plain_task(given, task) for task in given.tasks] == [
        {"advpose": "hgpose", "advpose-ae": "hgpose-ae"}.get(task) for task in given.tasks
    ]
    longer = given.tasks["advpose"].model_copy(update={"epochs": 77})
    renamed = {
        "a": given.tasks["hgpose"],
        "b": given.tasks["advpose"],
        "c": given.tasks["advpose-ae"],
        "d": longer,
    }
    assert [plain_task(given.model_copy(update={"tasks": renamed}), task) for task in "abcd"] == [
        None,
        "a",
        None,
        None,
    ]


# --- figures of all tasks
# ----------------------------------------------------------------------------------------------


def test_the_figures_of_all_tasks_are_written_as_numbers(played, page):
    summary = json.loads((played / "metrics/summary.json").read_text())
    figures = json.loads((played / "metrics/advpose.json").read_text())
    assert list(summary) == ["hgpose", "advpose"]
    assert summary["advpose"] == {
        "PCKh@0.5": figures["PCKh"]["0.5"],
        "PCK@0.2": figures["PCK"]["0.2"],
        "PCKh@0.1": figures["PCKh"]["0.1"],
        "AUC": figures["PCKh"]["AUC"],
        "people": 12,
        "steps": 5000,
    }


def test_the_summary_leaves_out_what_is_not_known(copy):
    for name in ("train", "valid"):
        (copy / f"metrics/plots/hgpose/{name}.csv").unlink()
    (copy / "metrics/hgpose.json").write_text('{"PCKh": {"0.5": 50}}')
    (copy / "metrics/advpose.json").unlink()
    report(copy, params())
    assert json.loads((copy / "metrics/summary.json").read_text()) == {"hgpose": {"PCKh@0.5": 50}}


def test_no_task_may_have_the_name_of_the_summary(copy):
    given = params().model_copy(update={"tasks": {"summary": params().tasks["hgpose"]}})
    (copy / "metrics/summary.json").write_text('{"PCKh": {"0.5": 50}}')
    with pytest.raises(
        UserError, match=r"tasks\.summary: metrics/summary\.json is for the figures of all tasks"
    ):
        report(copy, given)
    assert "PCKh" in (copy / "metrics/summary.json").read_text()


# --- the study
# ---------------------------------------------------------------------------------------------------------


def study(path: Path, *lines: str, columns: str = COLUMNS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([columns, *lines]) + "\n")
    return path


def seeds(*changes: float, plain: float = 70.0, figure: str = "PCKh@0.5") -> list[str]:
    """A run with and one without an adversary for each seed, so far apart."""
    lines = []
    for seed, change in enumerate(changes, start=1):
        value = plain + 0.1 * seed
        lines.append(f"seeds,hgpose,{seed},10,,,,,{figure},{value},{value + 2},,,")
        lines.append(
            f"seeds,advpose,{seed},10,0.01,0.5,0.5,0.001,{figure},{value + change},{value + 3},1e-4,2e-3,0.02"
        )
    return lines


def said(path: Path) -> str:
    return " ".join(words for block in study_blocks(path) for words in block.words)


def test_the_study_is_a_table_of_one_row_an_experiment(copy):
    study(copy / "studies/adversary.csv", *seeds(-0.5, 0.5, 0.1))
    page = report(copy, params())
    assert "The same with other seeds: PCKh@0.5" in page.text
    assert "hgpose 2 10 70.2 72.2" in page.text
    assert "advpose 2 10 0.01 0.5 0.5 0.001 70.7 73.2 1.00e-04 2.00e-03 0.020" in page.text
    assert "Missing here" not in page.text.split("What the adversary brings")[-1]


def test_without_a_study_there_is_none_and_nothing_is_missed(page):
    assert "other seeds" not in page.text
    assert "studies" not in page.text


def test_the_study_is_shown_without_any_task_of_an_adversary(copy):
    study(copy / "studies/adversary.csv", *seeds(0.5, 0.1))
    assert "The same with other seeds" in report(copy, params("hgpose")).text


def test_a_difference_within_chance_is_said_to_be_nothing(tmp_path):
    words = said(study(tmp_path / "a.csv", *seeds(-0.5, 0.5, 0.3)))
    assert (
        "PCKh@0.5 is 70.2 for hgpose and 70.3 for advpose (10 epochs, weight 0.01, start 0.5, gamma 0.5, balance_rate 0.001)"
        in words
    )
    assert "by −0.5, +0.5, +0.3: +0.1 on average" in words
    assert "On what was trained on, +1.0 on average" in words
    assert words.endswith("the adversary brings nothing here that these runs can tell from chance.")


def test_the_interval_is_students(tmp_path):
    # Mean 1, standard deviation 1, three seeds: 1 +- 4.303 / sqrt(3).
    assert "95% interval −1.5 to +3.5" in said(study(tmp_path / "a.csv", *seeds(0, 1, 2)))


@pytest.mark.parametrize(
    ("sign", "words"),
    [(1, "the adversary raises PCKh@0.5 here."), (-1, "the adversary costs accuracy here: 2.0 of PCKh@0.5.")],
)
def test_a_difference_that_every_seed_shows_is_said(tmp_path, sign, words):
    assert said(study(tmp_path / "a.csv", *seeds(*(sign * change for change in (1.9, 2.0, 2.1))))).endswith(
        words
    )


def test_one_seed_says_nothing_about_chance(tmp_path):
    words = said(study(tmp_path / "a.csv", *seeds(5.0)))
    assert words.endswith("a difference of +5.0 with a single seed, which nothing tells from chance.")


def test_seeds_without_a_counterpart_are_left_out_of_the_words(tmp_path):
    lines = seeds(1.9, 2.0, 2.1)
    assert "means of 2 seeds" in said(study(tmp_path / "a.csv", *lines[1:]))
    assert said(study(tmp_path / "a.csv", *lines[1::2])) == ""
    other = [line.replace(",10,", ",20,") for line in lines[::2]]
    assert said(study(tmp_path / "a.csv", *lines[1::2], *other)) == ""


def test_fractions_keep_three_digits(tmp_path):
    words = said(study(tmp_path / "a.csv", *seeds(0.01, -0.02, plain=0.2, figure="AP")))
    assert "+0.010, −0.020: −0.005 on average" in words


def test_settings_are_told_by_their_range(tmp_path):
    lines = (
        "game,hgpose,1,4,,,,,PCKh@0.5,62,64,,,",
        "game,advpose,1,4,0.01,0.5,0.5,0.001,PCKh@0.5,61,63,1e-4,2e-3,0.1",
        "game,advpose,1,4,1,0.5,0.5,0.001,PCKh@0.5,50,52,1e-4,1e-3,0.3",
    )
    words = said(study(tmp_path / "a.csv", *lines))
    for expected in (
        "advpose, 2 runs of 4 epochs: PCKh@0.5 from 50.0 (weight 1, start 0.5, gamma 0.5, balance_rate 0.001) to 61.0 (weight 0.01,",
        "hgpose has 62.0, and none of these is above it",
        "E(fake) was 10 to 20 times E(real), k_t 0.100 to 0.300",
        "Each setting was run once",
    ):
        assert expected in words


@pytest.mark.parametrize(
    ("columns", "line", "words"),
    [
        (COLUMNS, "", "no rows"),
        ("study,task", "game,advpose", "no column figure, seed"),
        (COLUMNS, "game,advpose,1,4,,,,,PCKh@0.5,high,,,,", "line 2: value is 'high', expected a number"),
        (COLUMNS, "game,advpose,1,4,,,,,PCKh@0.5,,,,,", "line 2: value is nan, expected a number"),
        (COLUMNS, "game,advpose,1,4,a,,,,PCKh@0.5,1,,,,", "line 2: weight is 'a', expected a number"),
        (COLUMNS, "game,advpose,1,4,,,,,mAP,1,,,,", "line 2: figure is 'mAP', expected one of: PCKh@0.5,"),
    ],
)
def test_a_damaged_study_is_named_on_the_page(copy, columns, line, words):
    study(copy / "studies/adversary.csv", *([line] if line else []), columns=columns)
    page = report(copy, params())
    assert f"studies/adversary.csv: {words}" in page.text
    assert "advpose beside hgpose" in page.text


def test_bytes_that_are_no_table_are_named_too(copy):
    path = study(copy / "studies/adversary.csv")
    path.write_bytes(bytes(range(256)))
    assert "studies/adversary.csv: cannot be read as CSV" in report(copy, params()).text


def test_names_in_a_study_are_text_and_never_markup(copy):
    study(copy / "studies/adversary.csv", "<b>,<u>adv,1,4,0.1,0,0.5,0.1,AP,0.1,0.1,1,1,0")
    page = report(copy, params())
    assert not page.all("b") + page.all("u")
    assert "<u>adv" in page.text


# --- charts
# ------------------------------------------------------------------------------------------------------------


def test_an_axis_over_many_powers_of_ten_names_each_once():
    y = np.geomspace(1e-6, 1, 30)
    drawn = line_chart([Line("a", np.arange(30.0), y, SERIES[0])], name="n", title="t", x_label="x", log=True)
    labels = re.findall(r">([^<>]*)</text>", drawn)
    assert "0.01" in labels
    assert not {"0.02", "0.05"} & set(labels)


def test_a_chart_may_begin_beyond_nought():
    x = np.arange(3000.0, 5000, 100)
    drawn = line_chart([Line("a", x, x)], name="n", title="t", x_label="x", x_from=3000, mark=4000)
    labels = re.findall(r">([^<>]*)</text>", drawn)
    assert "3,000" in labels
    assert "stroke-dasharray" in drawn


def test_what_other_questions_ran_as_long_and_from_the_same_seed_stands_beside_the_game(tmp_path: Path):
    rows = [
        "seeds,hgpose,1,3,,,,,PCKh@0.5,50,50,,,",
        "seeds,advpose,1,3,5,0.5,0.5,0.001,PCKh@0.5,51,51,0.1,0.2,0",
        "seeds,advpose,2,3,5,0.5,0.5,0.001,PCKh@0.5,52,52,0.1,0.2,0",
        "seeds,advpose,1,4,5,0.5,0.5,0.001,PCKh@0.5,53,53,0.1,0.2,0",
        "game,advpose,1,3,50,0.5,0.5,0.001,PCKh@0.5,54,54,0.1,0.2,0",
    ]
    (tmp_path / "study.csv").write_text("\n".join([COLUMNS, *rows]))
    game = study_blocks(tmp_path / "study.csv")[-1]
    assert [row.cells[-5].text for row in game.table.rows] == ["50.0", "51.0", "54.0"]
    assert "hgpose has 50.0" in game.words[0]
