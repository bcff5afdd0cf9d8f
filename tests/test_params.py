"""Reading params.yaml."""

import re
from typing import Any

import pytest
from helpers import ROOT, user_error

from pose.io.errors import UserError
from pose.io.schema import read_yaml
from pose.params import load_params, parse_params

MISSING = object()
AE = {"kind": "ae", "stacks": 2, "features": 8, "increase": 4, "outputs": 68, "stem": [4, 8, 8]}


def changed(key: str, value: object) -> dict[str, Any]:
    """The committed parameters with another value at a dotted key, or without it."""
    values = read_yaml(ROOT / "params.yaml")
    *path, last = key.split(".")
    inner = values
    for part in path:
        inner = inner[part]
    if value is MISSING:
        del inner[last]
    else:
        inner[last] = value
    return values


def test_the_committed_file_is_complete():
    assert load_params(ROOT / "params.yaml").tasks["hgpose"].problem == "single"


@pytest.mark.parametrize(("text", "rate"), [("2e-4", 2e-4), ("2e-05", 2e-5), ("1e-5", 1e-5), ("0.001", 1e-3)])
def test_rates_in_exponent_notation_are_numbers(text, rate, tmp_path):
    lines = (ROOT / "params.yaml").read_text().splitlines()
    lines = [f"lr: {text}" if line.startswith("lr:") else line for line in lines]
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    assert load_params(tmp_path / "params.yaml").lr == rate


@pytest.mark.parametrize("text", ["- 1\n- 2\n", "\x00"])
def test_a_file_that_is_no_mapping_is_one_line(text, tmp_path):
    (tmp_path / "params.yaml").write_text(text)
    with user_error(r"params\.yaml"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("lr", "fast", "lr: found 'fast', input should be a valid number"),
        ("lr", float("nan"), "lr: found nan, input should be "),
        ("seed", True, "seed: found True"),
        ("learning_rate", 1, "unknown key learning_rate"),
        ("tasks.hgpose.dataset", "coca", r"hgpose.dataset: found 'coca', expected one prepared for problem"),
        ("tasks.hgpose-ae.dataset", "lsp_mpii", r"expected one prepared for problem multi: coco"),
        ("tasks.hgpose.network.stacks", MISSING, r"missing key tasks\.hgpose\.network\.stacks"),
        ("tasks.advpose.adversary.network.stem", [4, 8], r"tasks\.advpose\.adversary\.network\.stem"),
        ("tasks.hgpose.optimizer.name", "lion", r"name: found 'lion', expected one of 'rmsprop', 'adam', 'a"),
        ("tasks.hgpose.network.kind", "hour", r"network\.kind: found 'hour', expected one of 'hourglass', "),
        ("tasks.hgpose.override", {"augment": {"flap": 1}}, r"hgpose\.override: unknown key augment\.flap"),
        ("tasks.hgpose.override", {"augment": 1}, r"tasks\.hgpose\.override: augment: "),
        ("tasks.hgpose.override", {"input_size": 100}, r"input_size: found 100, input should be a mult"),
        ("tasks.hgpose.override", [], r"tasks\.hgpose\.override: found \[\], input should be a valid dict"),
        ("tasks.hgpose-ae.override", {"tag_gain": "x"}, r"tasks\.hgpose-ae\.override: tag_gain: found 'x'"),
        ("tasks.hgpose.optimizer.betas", [0.9], r"tasks\.hgpose\.optimizer\.betas: found \[0\.9\]"),
        ("tasks.hgpose.optimizer.name", "adam", r"unknown key tasks\.hgpose\.optimizer\.momentum"),
        ("single.unlabelled", "zero", "single: unlabelled: found zero, expected ignore with"),
        ("evaluate.scales", [], r"evaluate\.scales: found \[\]"),
        ("evaluate.scales", [1.0, 0.0], r"scales\.1: found 0\.0, input should be greater than .* 0\.1"),
        ("evaluate.crop_scales", [1.0, 9.0], r"crop_scales\.1: found 9\.0, input should be less .* 2"),
        (
            "evaluate.crop_scales",
            [0.5, 1.0],
            r"found 0\.5, expected at least 0\.59 with the crop 1\.25 of tas",
        ),
        ("multi.focal_gamma", 0.5, r"multi\.focal_gamma: found 0\.5, expected 0 or at least 1"),
        ("multi.sigma", float("inf"), r"multi\.sigma: found inf, input should be a finite number"),
        ("lr", 1e300, r"lr: found 1e\+300, input should be less than or equal to 100"),
        ("multi.sigma", 100.0, r"multi\.sigma: found 100, expected at most 8, a quarter of .* 32 cells"),
        ("single.sigma", 1e-200, r"single\.sigma: found 1e-200, input should be greater than .* 0\.25"),
        ("single.augment.scale.spread", 1.0, r"spread: found 1, expected at most 0\.9 with kind: linear"),
        ("tasks.hgpose.schedule.gamma", 1e300, r"schedule\.gamma: found 1e\+300, input should be less"),
        ("synthetic.coco.train", 10**12, r"coco\.train: found 10{12}, input should be less than"),
        ("data.root", "a\0b", r"data\.root: found 'a\\x00b', string should match"),
        ("multi.loss", "bce", r"multi\.loss: found 'bce', input should be 'mse' or 'focal'"),
        ("multi.input_size", 100, r"multi\.input_size: found 100, input should be a multiple of 64"),
        ("multi.thresholds.max_distance", MISSING, r"missing key multi\.thresholds\.max_distance"),
        ("multi.thresholds.detection", 1.5, r"found 1\.5, input should be less than or equal to 1"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_its_key(key, value, message):
    with user_error(f"^params.yaml: .*{message}"):
        parse_params(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value", "size"),
    [
        ("multi.input_size", 1024, "multi.input_size 1024"),
        ("tasks.hgpose-ae.override", {"input_size": 1024}, "tasks.hgpose-ae.override.input_size 1024"),
    ],
)
def test_the_largest_input_of_an_evaluation_is_limited(key, value, size):
    values = changed(key, value)
    values["evaluate"]["scales"] = [1.0, 6.0]
    expected = f"found 6 of {size}, expected at most 4, so that the input has at most 4096 px"
    with user_error(rf"evaluate\.scales: {expected}$"):
        parse_params(values)


def test_a_task_overrides_keys_of_its_problems_section_for_itself_alone():
    plain = parse_params(changed("lr", 0.1))
    values = changed("tasks.advpose.override", {"input_size": 192, "augment": {"rotation": {"deg": 40.0}}})
    params = parse_params(values)
    own = params.problem("advpose")
    assert (own.input_size, own.augment.rotation.deg) == (192, 40.0)
    expected = plain.single.model_dump() | {"input_size": 192}
    expected["augment"]["rotation"]["deg"] = 40.0
    assert own.model_dump() == expected
    assert params.problem("hgpose") == params.single == plain.single
    assert params.problem("hgpose-ae") == params.multi


def test_a_task_that_extends_another_has_its_override():
    params = parse_params(changed("tasks.hgpose-ae.override", {"sigma": 2.0}))
    assert params.problem("advpose-ae").sigma == 2.0


@pytest.mark.parametrize("name", ["../../other", "a.b"])  # no file; two keys to DVC
def test_the_name_of_a_task_is_one_for_files_and_for_dvc(name):
    values = changed("lr", 0.1)
    values["tasks"][name] = {"extends": "hgpose"}
    with user_error(rf"params\.yaml: tasks\.{re.escape(name)}.*: found '{re.escape(name)}'"):
        parse_params(values)


@pytest.mark.timeout(20)
def test_values_that_yaml_repeats_without_end_are_looked_at_once(tmp_path):
    doubled = [f"a{level}: &a{level} {{l: *a{level - 1}, r: *a{level - 1}}}\n" for level in range(1, 60)]
    (tmp_path / "params.yaml").write_text("a0: &a0 {kind: x}\n" + "".join(doubled))
    with user_error(r"params\.yaml: unknown key a0; unknown key a1"):
        load_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("task", ["hgpose", "hgpose-ae"])
def test_any_network_goes_with_either_problem(task):
    baseline = {"kind": "simple_baseline", "stem": 8, "widths": [8, 16], "blocks": 1, "upsampled": 8}
    for network in (AE, baseline, changed("lr", 0.1)["tasks"]["hgpose"]["network"]):
        params = parse_params(changed(f"tasks.{task}.network", network))
        assert params.task(task).network.model_dump() == network


def test_a_task_that_extends_another_differs_in_what_it_names_alone():
    values = changed("tasks.hgpose.epochs", 3)
    base, extended = (parse_params(values).task(name) for name in ("hgpose", "advpose"))
    assert extended.adversary is not None
    assert extended.model_copy(update={"adversary": None}) == base
    values["tasks"]["advpose"]["epochs"] = 7
    assert parse_params(values).task("advpose") == extended.model_copy(update={"epochs": 7})


@pytest.mark.parametrize("extends", ["advpose-ae", "dance", 3])
def test_a_task_extends_one_that_extends_none(extends):
    expected = f"found {extends!r}, expected a task that extends none: hgpose, hgpose-ae"
    with user_error(rf"tasks: advpose\.extends: {expected}$"):
        parse_params(changed("tasks.advpose.extends", extends))


def test_an_unknown_task_lists_those_there_are():
    with user_error("no task 'dance', expected one of: hgpose"):
        load_params(ROOT / "params.yaml").task("dance")


def test_a_file_that_is_no_yaml_is_named_with_the_place(tmp_path):
    (tmp_path / "params.yaml").write_text("a: [1,\nb: 2\n")
    with pytest.raises(UserError, match=r"params\.yaml: cannot be read as YAML .* at line 1") as error:
        read_yaml(tmp_path / "params.yaml")
    assert "unicode string" not in str(error.value)
