"""Reading params.yaml."""

from __future__ import annotations

import pytest
from helpers import ROOT

from pose.io.errors import UserError
from pose.params import load_params, parse_params, read_yaml


def values() -> dict:
    return read_yaml(ROOT / "params.yaml")


def test_the_committed_file_is_complete():
    assert load_params(ROOT / "params.yaml").tasks["hgpose"].problem == "single"


@pytest.mark.parametrize(("text", "rate"), [("2e-4", 2e-4), ("2e-05", 2e-5), ("1e-5", 1e-5), ("0.001", 1e-3)])
def test_rates_in_exponent_notation_are_numbers(tmp_path, text, rate):
    changed = (ROOT / "params.yaml").read_text().splitlines()
    changed = [f"lr: {text}" if line.startswith("lr:") else line for line in changed]
    (tmp_path / "params.yaml").write_text("\n".join(changed))
    assert load_params(tmp_path / "params.yaml").lr == rate


def test_a_word_for_a_number_is_named():
    with pytest.raises(UserError, match="lr: found 'fast', input should be a valid number"):
        parse_params(values() | {"lr": "fast"})


def test_an_unknown_key_is_named():
    with pytest.raises(UserError, match="unknown key learning_rate"):
        parse_params(values() | {"learning_rate": 1})


def test_a_missing_key_is_named_with_its_path():
    broken = values()
    del broken["tasks"]["hgpose"]["network"]["stacks"]
    with pytest.raises(UserError, match=r"missing key tasks\.hgpose\.network\.stacks"):
        parse_params(broken)


def test_a_stem_of_two_numbers_is_for_the_pose_network_not_for_its_adversary():
    short = values()
    short["tasks"]["hgpose"]["network"]["stem"] = [4, 8]
    assert parse_params(short).task("advpose").network.stem == [4, 8]
    short["tasks"]["advpose"]["adversary"]["network"]["stem"] = [4, 8]
    with pytest.raises(UserError, match=r"tasks\.advpose\.adversary\.network\.stem"):
        parse_params(short)


def test_a_boolean_is_not_taken_for_a_number():
    with pytest.raises(UserError, match="seed: found True"):
        parse_params(values() | {"seed": True})


@pytest.mark.parametrize("text", ["a: [1", "- 1\n- 2\n", "\x00"])
def test_a_file_that_is_no_mapping_is_one_line(tmp_path, text):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(UserError) as error:
        load_params(tmp_path / "params.yaml")
    assert "params.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_task_lists_those_there_are():
    with pytest.raises(UserError, match="no task 'dance', expected one of: hgpose"):
        load_params(ROOT / "params.yaml").task("dance")


def test_flattening_does_not_depend_on_order():
    assert flatten({"a": {"b": 1, "c": [2]}}) == {"a.b": 1, "a.c": [2]}


AE = {"kind": "ae", "stacks": 2, "features": 8, "increase": 4, "outputs": 68, "stem": [4, 8, 8]}


def changed(key: str, value: object) -> dict:
    """The committed parameters with another value, or without it if that is None."""
    everything = values()
    *path, last = key.split(".")
    inner = everything
    for part in path:
        inner = inner[part]
    if value is None:
        del inner[last]
    else:
        inner[last] = value
    return everything


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            "tasks.hgpose.network",
            AE,
            r"tasks\.hgpose: .*network\.kind: ae goes with problem: multi only; with single it is hourglass",
        ),
        (
            "tasks.hgpose-ae.network",
            AE | {"kind": "unet"},
            r"tasks\.hgpose-ae\.network: .*'unet' .*expected tags: 'hourglass', 'ae'",
        ),
        (
            "tasks.hgpose-ae.network",
            AE | {"outputs": 33},
            r"tasks\.hgpose-ae\.network\.outputs: found 33, .* equal to 34",
        ),
        ("tasks.hgpose-ae.network", AE | {"modules": 1}, r"unknown key tasks\.hgpose-ae\.network\.modules"),
        ("tasks.hgpose-ae.network.kind", None, r"tasks\.hgpose-ae\.network: .*'kind'"),
        (
            "tasks.hgpose-ae.weights.pull",
            None,
            r"weights has the keys heatmap, push, expected heatmap, pull, push for problem: multi",
        ),
        (
            "tasks.hgpose.weights.pull",
            1.0,
            r"weights has the keys heatmap, pull, expected heatmap for problem: single",
        ),
        ("evaluate.scales", [0.5, 2.0], r"evaluate: .*scales: expected 1\.0 among them"),
        ("evaluate.scales", [], r"evaluate\.scales: found \[\]"),
        ("evaluate.scales", [1.0, 0.0], r"evaluate\.scales\.1: found 0\.0, input should be greater than 0"),
        ("multi.focal_gamma", 0.5, r"multi: focus is 0\.5, expected 0 or at least 1: [^{]*$"),
        ("multi.sigma", float("inf"), r"multi\.sigma: found inf, input should be a finite number"),
        ("lr", float("nan"), r"lr: found nan, input should be "),
        ("multi.loss", "bce", r"multi\.loss: found 'bce', input should be 'mse' or 'focal'"),
        ("multi.input", 100, r"multi\.input: found 100, input should be a multiple of 64"),
        ("multi.thresholds.reach", None, r"missing key multi\.thresholds\.reach"),
        (
            "multi.thresholds.detection",
            1.5,
            r"multi\.thresholds\.detection: found 1\.5, input should be less than or equal to 1",
        ),
    ],
)
def test_what_several_people_a_picture_cannot_be_taught_by_is_refused_in_one_line(key, value, message):
    with pytest.raises(UserError, match=message) as error:
        parse_params(changed(key, value))
    assert "\n" not in str(error.value)


def test_either_network_goes_with_several_people_a_picture():
    assert parse_params(changed("tasks.hgpose-ae.network", AE)).task("hgpose-ae").network.kind == "ae"
    hourglass = values()["tasks"]["hgpose"]["network"]
    assert (
        parse_params(changed("tasks.hgpose-ae.network", hourglass)).task("hgpose-ae").network.kind
        == "hourglass"
    )


def test_a_task_like_another_differs_in_what_it_names_alone():
    everything = changed("tasks.hgpose.epochs", 3)
    plain, played = (parse_params(everything).task(name) for name in ("hgpose", "advpose"))
    assert played.adversary is not None
    assert played.model_copy(update={"adversary": None}) == plain
    everything["tasks"]["advpose"]["epochs"] = 7
    assert parse_params(everything).task("advpose") == played.model_copy(update={"epochs": 7})


@pytest.mark.parametrize("like", ["advpose-ae", "dance", 3])
def test_a_task_is_like_a_whole_one(like):
    with pytest.raises(
        UserError,
        match=rf"tasks: advpose\.like: found {like!r}, expected a task like no other: hgpose, hgpose-ae$",
    ):
        parse_params(changed("tasks.advpose.like", like))
