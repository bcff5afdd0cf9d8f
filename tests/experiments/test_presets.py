"""Presets change values in `params.yaml` and nothing else of it."""

from pathlib import Path

import pytest
from helpers import ROOT, user_error

from pose.cli import run
from pose.experiments.presets import apply_preset, describe, preset_names
from pose.io.schema import flatten, read_yaml
from pose.params import load_params, packing_fault

PRESETS = ROOT / "presets"
NAMES = preset_names(PRESETS)


@pytest.fixture
def params(tmp_path: Path) -> Path:
    """A copy of the committed parameters."""
    path = tmp_path / "params.yaml"
    path.write_bytes((ROOT / "params.yaml").read_bytes())
    return path


def preset(folder: Path, text: str) -> Path:
    """A folder with one preset, `mine`."""
    (folder / "presets").mkdir(exist_ok=True)
    (folder / "presets/mine.yaml").write_text(text)
    return folder / "presets"


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_described_and_read_with_its_values_and_demo_takes_it_back(name, params):
    before = params.read_text()
    apply_preset(name, params, PRESETS)
    assert (params.read_text() == before) == (name == "demo")
    found = flatten(load_params(params).model_dump())
    for key, value in flatten(read_yaml(PRESETS / f"{name}.yaml")).items():
        assert found[key] == value, key
    assert describe(name, PRESETS)
    own = load_params(params)
    assert not [fault for task in own.tasks if (fault := packing_fault(own.prepare, own.problem(task)))]
    apply_preset("demo", params, PRESETS)
    assert params.read_text().split() == before.split()  # comments may have moved by some spaces


def test_the_paper_preset_covers_every_task(params):
    keys = set(flatten(read_yaml(PRESETS / "paper.yaml")))
    for task, values in read_yaml(params)["tasks"].items():
        plain = ("epochs", "batch", "lr_scale", "network.stacks", "schedule.name")
        adversary = ("network.stacks", "lr", "weight", "gamma", "balance_rate", "start_fraction", "gradient")
        named = plain if "extends" not in values else [f"adversary.{key}" for key in adversary]
        named = [] if "extends" in values and "adversary" not in values else named
        assert {f"tasks.{task}.{key}" for key in named} <= keys


def test_only_values_change_and_comments_keep_their_place(params):
    before = params.read_text().splitlines()
    changes = apply_preset("paper", params, PRESETS)
    after = params.read_text().splitlines()
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert 0 < len(changed) <= len(changes)
    assert not [change for change in changes if "#" in str(change)]
    for old, new in changed:
        assert old.partition(" #")[2] == new.partition(" #")[2]
        assert old.partition(":")[0] == new.partition(":")[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("lr: 2.50e-4", "lr: 2.50e-4"),
        ("single: {augment: {colour: 0.25}}", "    colour: 0.25"),
        ("multi: {thresholds: {tune: false}}", "  thresholds: {tune: false, group_by: tags, detection: 0.3"),
        ("evaluate: {scales: [1.0, 2.0]}", "  scales: [1.0, 2.0]"),
    ],
)
def test_a_value_is_written_as_the_preset_writes_it(text, line, params, tmp_path):
    before = params.read_text().splitlines()
    [change] = apply_preset("mine", params, preset(tmp_path, text))
    [new] = [one for one in params.read_text().splitlines() if one not in before]
    assert new.startswith(line)
    assert str(change).startswith(f"{change.key}: ")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1", r"mine.yaml: unknown key learning_rate, expected one that .*params.yaml has"),
        ("tasks: {hgpose: {network: {stack: 1}}}", r"mine.yaml: unknown key tasks.hgpose.network.stack"),
        ("lr: fast", r"params.yaml with preset mine: lr: found 'fast'"),
        ("data: elsewhere", r"params.yaml with preset mine: data: found 'elsewhere'"),
        ("lr:\n  base: 1", r"params.yaml with preset mine: lr: found "),
        ("lr: [", r"mine.yaml: cannot be read as YAML"),
        ("- lr", r"mine.yaml: found list, expected keys and values"),
    ],
)
def test_a_preset_that_makes_no_sense_changes_nothing(text, message, params, tmp_path):
    before = params.read_bytes()
    with user_error(message):
        apply_preset("mine", params, preset(tmp_path, text))
    assert params.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "presets"]


def test_an_unknown_preset_is_answered_with_those_there_are(params):
    with user_error(f"preset: found 'papre', expected one of: {', '.join(NAMES)}"):
        apply_preset("papre", params, PRESETS)
    with user_error(r"presets: no such folder"):
        run(["preset", "--params", str(params)])


def test_the_command_lists_presets_and_says_what_it_changed(params, tmp_path, capsys):
    preset(tmp_path, "# a rate of my own\nlr: 0.125\n")
    run(["preset", "--params", str(params)])
    assert capsys.readouterr().out == "mine       a rate of my own\n"
    run(["preset", "mine", "--params", str(params)])
    change = f"lr: {load_params(ROOT / 'params.yaml').lr} -> 0.125"
    assert capsys.readouterr().out.splitlines() == [change, f"{params}: 1 values changed"]
    run(["preset", "mine", "--params", str(params)])
    assert capsys.readouterr().out == f"{params}: holds preset mine already\n"
    assert load_params(params).lr == 0.125
