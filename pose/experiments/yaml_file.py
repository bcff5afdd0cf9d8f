"""YAML files that people write: read and written with their comments, quotes and spelling of numbers."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pose.io.files import read_text
from pose.io.schema import read_yaml


def load_commented(path: Path) -> Any:
    """A YAML mapping with all that `as_yaml` needs to write it as it was; UserError for anything else."""
    read_yaml(path)  # whose errors name the file
    return _yaml().load(read_text(path))


def as_yaml(values: Any) -> str:
    """The text of a YAML file."""
    text = io.StringIO()
    _yaml().dump(values, text)
    return text.getvalue()


def plain(values: Any) -> Any:
    """Values of `load_commented`, as they would be read from the file they make, without their comments."""
    return YAML(typ="safe").load(as_yaml(values))


def _yaml() -> YAML:
    yaml = YAML()
    yaml.width = 4096  # lines stay as long as they are
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)
    yaml.representer.add_representer(
        type(None), lambda representer, _: representer.represent_scalar("tag:yaml.org,2002:null", "null")
    )
    return yaml
