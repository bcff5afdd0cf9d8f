"""Weights from and for elsewhere: `pose import-weights`, `export-weights`, `export`, `release`, `fetch`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pose.cli.command import Commands, add_command


def add(commands: Commands) -> None:
    """Add these commands to the parser."""
    more = "Which network it is, its tensors tell. Only tensors and plain values are loaded: no code can run."
    arg = add_command(commands, "import-weights", _import, "read published weights of other projects", more)
    arg("source", type=Path, metavar="CHECKPOINT", help="a file as the other project saved it")
    arg("--out", type=Path, required=True, help="for example models/imported/hgpose.pt")
    arg("--kind", help="insist on this network, or choose it: bearpaw_hg, umich_pose_ae, ...")
    arg("--task", help="name to keep with the weights (default: hgpose or hgpose-ae)")

    more = "A published code of the same architecture reads them."
    arg = add_command(
        commands, "export-weights", _export, "write weights under another project's names", more
    )
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    kinds = "bearpaw_hg, roytseng_hgpose, roytseng_hgpose_ae or umich_pose_ae"
    arg("--kind", required=True, help=f"whose names: {kinds}")
    arg("--out", type=Path, required=True, help="the file to write")

    more = (
        "Normalisation and activation are inside, joints and thresholds beside; any number of images at once."
        " The file is compared with PyTorch's output before it gets its name."
    )
    arg = add_command(commands, "export", _export_network, "write a network for other runtimes", more)
    arg("weights", type=Path, metavar="WEIGHTS", help="models/TASK/last.pt or best.pt")
    kinds = "ONNX (the default), torch.export, or weights as before"
    arg("--to", choices=["onnx", "torch", "safetensors"], default="onnx", help=kinds)
    arg("--out", type=Path, help="default: beside the weights, ending in .onnx, .pt2 or .safetensors")

    more = "With a hash and a model card, for a disk or any web server. Other weights in the folder stay."
    arg = add_command(commands, "release", _release, "put a task's weights into a folder of releases", more)
    arg("task", metavar="TASK", help="hgpose, hgpose-ae, ...")
    arg("--to", type=Path, required=True, metavar="FOLDER", help="a folder of releases, or a new one")
    arg(
        "--licence",
        required=True,
        metavar="TEXT",
        help="of the weights; their data may limit it",
    )
    arg("--weights", type=Path, metavar="FILE", help="default: models/TASK/last.pt")

    more = "Their size, hash and content are checked first. Without a name, list the releases."
    arg = add_command(commands, "fetch", _fetch, "get released weights", more)
    arg("name", nargs="?", metavar="NAME", help="of the weights")
    arg("--from", dest="source", required=True, metavar="SOURCE", help="path or URL of a folder of releases")
    arg("--out", type=Path, metavar="FILE", help="default: models/NAME.pt")


def _import(source: Path, out: Path, kind: str | None, task: str | None) -> None:
    from pose.models.published import import_file

    published = import_file(source, out, task=task, kind=kind)
    size = ", ".join(f"{name} {value}" for name, value in published.settings.items())
    print(f"{out}: {published.format.name} ({size})")


def _export(weights: Path, kind: str, out: Path) -> None:
    from pose.models.published import export_file

    export_file(weights, out, kind)
    print(f"{out}: named as in {kind}")


def _release(task: str, to: Path, licence: str, weights: Path | None) -> None:
    from pose.experiments.releases import release

    print(f"{release(task, to, licence=licence, weights=weights)}: model card")


def _fetch(name: str | None, source: str, out: Path | None) -> None:
    from pose.experiments.releases import fetch, read_index

    if name is None:
        for known, entry in read_index(source).items():
            print(f"{known:16} {entry.bytes / 1e6:6.1f} MB  {_metrics(entry.metrics)}")
        return
    out = out or Path("models") / f"{name}.pt"
    print(f"{out}: {_metrics(fetch(name, source, out).metrics)}")


def _metrics(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:g}" for key, value in metrics.items())


def _export_network(weights: Path, to: Literal["onnx", "torch", "safetensors"], out: Path | None) -> None:
    from pose.inference.export import export

    print(f"{export(weights, to, out)}: finds what {weights} finds")
