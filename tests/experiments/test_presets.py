"""Presets change values in `params.yaml` and nothing else of it."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest
from helpers import ROOT

from pose.cli import run
from pose.experiments.presets import apply_preset, describe, merge, preset_names
from pose.io.errors import UserError
from pose.params import load_params, read_yaml

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


def leaves(path: Path) -> set[str]:
    return set(flatten(read_yaml(path)))


def test_demo_is_what_the_committed_parameters_are(params):
    before = params.read_bytes()
    assert apply_preset("demo", params, PRESETS) == []
    assert params.read_bytes() == before


@pytest.mark.parametrize("name", NAMES)
def test_demo_takes_back_what_another_preset_wrote(name, params):
    before = params.read_bytes()
    apply_preset(name, params, PRESETS)
    apply_preset("demo", params, PRESETS)
    assert params.read_text() == before.decode()


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_is_read_with_its_values_and_described(name, params):
    apply_preset(name, params, PRESETS)
    found = flatten(load_params(params).model_dump())
    for key, value in flatten(read_yaml(PRESETS / f"{name}.yaml")).items():
        assert found[key] == value, key
    assert describe(name, PRESETS)


def test_the_paper_preset_covers_every_task(params):
    keys = leaves(PRESETS / "paper.yaml")
    for task, values in read_yaml(params)["tasks"].items():
        plain = ("epochs", "batch", "lr_scale", "network.stacks", "schedule.name")
        adversary = ("network.stacks", "lr", "weight", "gamma", "balance_rate", "start", "gradient")
        named = [f"adversary.{key}" for key in adversary] if "like" in values else plain
        assert {f"tasks.{task}.{key}" for key in named} <= keys


def test_only_values_change_and_comments_keep_their_place(params):
    before = params.read_text().splitlines()
    changes = apply_preset("paper", params, PRESETS)
    after = params.read_text().splitlines()
    assert len(before) == len(after)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert 0 < len(changed) <= len(changes)
    for old, new in changed:
        assert old.partition(" #")[2] == new.partition(" #")[2], "".join(difflib.ndiff([old], [new]))
        assert old.partition(":")[0] == new.partition(":")[0]


TEXT = """\
a: 1       # one
long: 200  # two
b: {c: 0.5, d: [1, 2]}    # three
e:
  f: null
  g: word
"""


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (
            "a: 2.50e-4",
            "a: 2.50e-4 # one",
        ),  # the column is shared with the line below, as far as there is room
        ("a: 100", "a: 100     # one"),
        ("b: {c: 0.125}", "b: {c: 0.125, d: [1, 2]}    # three"),  # stands alone: the distance stays
        ("b: {d: []}", "b: {c: 0.5, d: []}    # three"),
        ("e: {f: {x: 1, y: [2]}}", "  f: {x: 1, y: [2]}"),
        ("e:\n  g: 'a # b'", "  g: 'a # b'"),
    ],
)
def test_a_value_is_written_as_the_preset_writes_it(wanted, expected):
    text, (change,) = merge(TEXT, wanted)
    assert expected in text.splitlines()
    assert sum(line not in TEXT.splitlines() for line in text.splitlines()) == 1
    assert change.new in expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rate: 1", r"mine.yaml: unknown key learning_rate, expected one that .*params.yaml has"),
        ("tasks: {hgpose: {network: {stack: 1}}}", r"mine.yaml: unknown key tasks.hgpose.network.stack"),
        ("lr: fast", r"params.yaml with preset mine: lr: found 'fast'"),
        ("data: elsewhere", r"params.yaml: data: found a block of lines"),
        ("lr:\n  base: 1", r"mine.yaml: lr: found a block of lines"),
        ("lr: [", r"mine.yaml: not valid YAML"),
        ("- lr", r"mine.yaml: expected keys and values"),
    ],
)
def test_a_preset_that_makes_no_sense_changes_nothing(text, message, params, tmp_path):
    before = params.read_bytes()
    with pytest.raises(UserError, match=message):
        apply_preset("mine", params, preset(tmp_path, text))
    assert params.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["params.yaml", "presets"]


def test_an_unknown_preset_is_answered_with_those_there_are(params):
    with pytest.raises(UserError, match=f"preset: found 'papre', expected one of: {', '.join(NAMES)}"):
        apply_preset("papre", params, PRESETS)
    with pytest.raises(UserError, match=r"presets: no such folder"):
        run(["preset", "--params", str(params)])


def test_the_command_lists_presets_and_says_what_it_changed(params, tmp_path, capsys):
    preset(tmp_path, "# a rate of my own\nlr: 0.125\n")
    run(["preset", "--params", str(params)])
    assert capsys.readouterr().out == "mine       a rate of my own\n"
    run(["preset", "mine", "--params", str(params)])
    assert capsys.readouterr().out.splitlines() == [
        f"lr: {load_params(ROOT / 'params.yaml').lr} -> 0.125",
        f"{params}: 1 values changed",
    ]
    run(["preset", "mine", "--params", str(params)])
    assert capsys.readouterr().out == f"{params}: holds preset mine already\n"
    assert load_params(params).lr == 0.125
