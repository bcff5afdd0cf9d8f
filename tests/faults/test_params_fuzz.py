"""Random parameters, drawn from the schema itself: a run ends, or is refused in one line, within its limits.

`make soak` sets FUZZ_DRAWS to some hundreds.
"""

import math
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import cv2
import pytest
from forked import run_forked
from helpers import make_workspace, write_params_file

from pose.data.prepare.coco import prepare_coco
from pose.data.prepare.lsp_mpii import prepare_lsp_mpii
from pose.data.synthetic import synthesize
from pose.inference.evaluate import evaluate
from pose.io.errors import UserError
from pose.io.paths import PREPARED
from pose.params import Params, load_params, parse_params
from pose.report import write_report
from pose.training.trainer import train

DRAWS = int(os.environ.get("FUZZ_DRAWS", "6"))
MEMORY, SECONDS = 2 * 2**30, 400
# What is legal but slow is of no interest: the largest values, within these keys.
LARGEST = {
    "synthetic": {"train": 3, "test": 3, "validation": 3, "lspet": 3, "size": 200},
    "min_people": {"train": 2, "validation": 2},
    "network": {"stacks": 2, "modules": 2, "blocks": 2, "features": 32, "increase": 16, "outputs": 64}
    | {"stem": 16, "widths": 16, "upsampled": 16},
    "train": {"processes": 1, "threads": 1, "workers": 1},  # a forked process may have no threads of OpenMP
    "": {"input_size": 128, "epochs": 3, "batch": 8, "scales": 3},
}
NO_NUMBERS = ["x", "a\0b", None, True, [], {}, [[]], {"kind": "x"}]
WRONG = [math.nan, math.inf, -1, -0.5, 1e300, 10**12, 10**400, *NO_NUMBERS]


class Draw:
    """Draws values of a JSON schema. share: of the values that differ from those given."""

    def __init__(self, seed: int, definitions: dict[str, Any]):
        self.random, self.definitions = random.Random(seed), definitions
        self.share = self.random.choice([0.05, 0.2, 0.6])
        self.wrong = self.random.choice([0.0, 0.0, 0.0, 0.01])

    def change(self, value: Any, schema: dict[str, Any], path: tuple[str, ...] = ()) -> Any:
        """The value with some of its parts drawn anew."""
        if self.random.random() < self.wrong:
            return self.random.choice(WRONG)
        if path[-1:] == ("init",):  # names a file, which would be none
            return value
        schema = self.resolve(schema, value)
        if isinstance(value, dict) and "properties" not in schema:  # names of any kind
            [inner] = schema.get("patternProperties", {"": schema.get("additionalProperties")}).values()
            return {key: self.change(one, inner, (*path, key)) for key, one in value.items()}
        other = path[-1:] in (("network",), ("optimizer",)) and self.random.random() < self.share  # kind
        if isinstance(value, dict) and not other:
            properties = schema["properties"]
            return {key: self.change(one, properties[key], (*path, key)) for key, one in value.items()}
        return self.value(schema, path) if self.random.random() < self.share else value

    def resolve(self, schema: dict[str, Any], value: Any = None) -> dict[str, Any]:
        """Without references; of several schemas that which fits the value, else any."""
        while True:
            if "$ref" in schema:
                schema = self.definitions[schema["$ref"].rpartition("/")[2]]
            elif several := schema.get("anyOf") or schema.get("oneOf"):
                resolved = [self.resolve(one) for one in several]
                if isinstance(value, dict):  # of its kind, if there are several
                    tag = schema.get("discriminator", {}).get("propertyName", "kind")
                    tags = [_tags(one.get("properties", {}).get(tag, {})) for one in resolved]
                    schema = resolved[[value.get(tag) in some for some in tags].index(True)]
                else:
                    schema = self.random.choice(resolved)
            else:
                return schema

    def value(self, schema: dict[str, Any], path: tuple[str, ...]) -> Any:
        """Any value of the schema."""
        schema = self.resolve(schema)
        if "const" in schema or "enum" in schema:
            return self.random.choice(schema.get("enum") or [schema["const"]])
        kind = schema["type"]
        if kind == "object":
            return {key: self.value(one, (*path, key)) for key, one in schema["properties"].items()}
        if kind == "array":
            count = self.random.randint(schema.get("minItems", 0), min(schema.get("maxItems", 4), 4))
            return [self.value(schema["items"], path) for _ in range(count)]
        if kind == "boolean":
            return path[-1] != "compile" and self.random.random() < 0.5
        if kind in ("integer", "number"):
            return self.number(schema, path, whole=kind == "integer")
        return {"string": "data/synthetic", "null": None}[kind]

    def number(self, schema: dict[str, Any], path: tuple[str, ...], *, whole: bool) -> float:
        """Evenly distributed on a logarithmic scale, and often the lowest or highest value."""
        low = schema.get("minimum", schema.get("exclusiveMinimum"))
        high = schema.get("maximum") or math.nextafter(schema["exclusiveMaximum"], low)
        limits = [some for name, some in LARGEST.items() if path[-1] in some and name in ("", *path)]
        high = min([high, *(some[path[-1]] for some in limits)])
        lowest = math.nextafter(low, math.inf) if "exclusiveMinimum" in schema else low
        if (kind := self.random.random()) < 0.2 or low == high:
            return lowest
        if kind < 0.35:
            return high
        smallest = max(low, 1 if whole else 1e-4)
        drawn = math.exp(self.random.uniform(math.log(smallest), math.log(high)))
        if not whole:
            return min(max(drawn, lowest), high)
        step = schema.get("multipleOf", 1)
        return max(step * (round(drawn) // step), math.ceil(low / step) * step)


def _tags(schema: dict[str, Any]) -> list[Any]:
    return schema.get("enum") or [schema.get("const")]


def draw_values(draw: Draw, params: Params) -> dict[str, Any]:
    """Values that the schema accepts, unless wrong ones are wanted."""
    schema = Params.model_json_schema()
    while True:
        values = draw.change(params.model_dump(), schema)
        with suppress(UserError):
            if not draw.wrong:
                parse_params(values)
            return values


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(DRAWS))
def test_random_parameters_run_or_are_refused_in_one_line(
    seed, params, drawn_root, prepared, prepared_coco, tmp_path
):
    draw = Draw(seed, Params.model_json_schema()["$defs"])
    folder = make_workspace(tmp_path, params, prepared, prepared_coco, store=False)
    write_params_file(folder, draw_values(draw, params))
    task = draw.random.choice(list(params.tasks))
    status, output = run_forked(
        lambda: run_pipeline(folder, drawn_root, task), seconds=SECONDS, memory=MEMORY
    )
    assert (status, "Traceback" in output) == (0, False), output


def run_pipeline(folder: Path, drawn_root: Path, task: str) -> None:
    """All stages with the folder's parameters, some steps of training; one that is refused is passed over."""
    os.chdir(folder)
    cv2.setNumThreads(0)
    refusals = list[str]()

    @contextmanager
    def stage() -> Iterator[None]:
        try:
            yield
        except UserError as error:
            print("error:", error)
            refusals.append(str(error))

    with stage():
        params = load_params()
        with stage():
            synthesize(params.synthetic, seed=params.seed, root="data/synthetic", workers=1)
        with stage():
            path = PREPARED["lsp_mpii"]
            prepare_lsp_mpii(drawn_root, path, params=params.prepare, seed=params.seed, workers=1)
        with stage():
            path = PREPARED["coco"]
            prepare_coco(
                drawn_root, path.with_name("new"), params=params.prepare.coco, seed=params.seed, workers=1
            )
            path.unlink()
            path.with_name("new").rename(path)
        with stage():
            train(params, task, max_steps=3)
            evaluate(params, task)
        with stage():
            write_report(params)
    assert not [one for one in refusals if "\n" in one]
