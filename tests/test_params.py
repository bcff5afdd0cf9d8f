"""Reading params.yaml."""

from __future__ import annotations

import pytest
from conftest import ROOT

from pose.errors import UserError
from pose.params import digest, flatten, load_params, parse_params, read_yaml


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


def test_flattening_and_digest_do_not_depend_on_order():
    assert flatten({"a": {"b": 1, "c": [2]}}) == {"a.b": 1, "a.c": [2]}
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
