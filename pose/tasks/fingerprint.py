"""Which parameters shape a run: what checkpoints, weights and MLflow record of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pose.io.schema import flatten
from pose.params import Params

HASHES = ("data", "init")  # of the files that a run reads
# Parameters that may differ between a run and its continuation; all others shape the weights or the history.
# The prepared data counts by its hash, whatever it was made of.
FREE_SECTIONS = {"tasks", "evaluate", "report", "single", "multi"}
FREE_SECTIONS |= {"data", "datasets", "prepare", "synthetic"}
FREE_IN_TRAIN = {"workers", "checkpoint_every", "checkpoint_minutes", "processes", "timeout"}


def fingerprint(params: Params, name: str, data_hash: str, init_hash: str = "") -> dict[str, Any]:
    """Every parameter that shapes a run, by dotted key, and the hashes of its files.

    These are `data`, what it is trained on, and `init`, the weights that it begins from, if any.

    `epochs` is no part of it, so that it may be raised, nor is the number of processes: these two are part of
    a run's environment, which may change when it is resumed.
    """
    problem = params.task(name).problem
    shape = params.model_dump(exclude=FREE_SECTIONS) | {problem: params.problem(name).model_dump()}
    shape["train"] = params.train.model_dump(exclude=FREE_IN_TRAIN)
    shape["task"] = params.task(name).model_dump(exclude={"epochs", "override"})
    # The last bits of the metrics by which weights and thresholds are chosen depend on evaluate.batch.
    hashes = {"data": data_hash} | ({"init": init_hash} if params.task(name).init else {})
    return flatten(shape) | {"evaluate.batch": params.evaluate.batch} | hashes


def changed_params(params: Params, name: str, trained: Mapping[str, Any]) -> dict[str, str]:
    """Parameters by which weights were trained (`Weights.provenance`) and that have other values now.

    By dotted key, a text of both values.
    """
    now = fingerprint(params, name, "") | {"epochs": params.task(name).epochs}
    if now["train.precision"] == "auto":  # weights record what it stood for
        del now["train.precision"]

    def has(values: Mapping[str, Any], key: str) -> bool:
        return key in values or key.rpartition(".")[0] in values  # of a section that is null there

    keys = [key for key in dict.fromkeys([*now, *trained]) if has(now, key) and has(trained, key)]
    changed = {
        key: f"was {trained.get(key)!r}, is {now.get(key)!r}"
        for key in keys
        if key not in HASHES and trained.get(key) != now.get(key)
    }
    source, before = params.data_source(name), trained.get("source")
    return changed | ({"data": f"was of {before}, is of {source}"} if before not in (None, source) else {})
