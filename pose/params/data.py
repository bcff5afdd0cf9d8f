"""Parameters of data: synthetic sets, and how raw sets are prepared."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pose.io.schema import Frozen
from pose.models.limits import (
    MAX_SIDE,
    CountOrZero,
    DrawnCount,
    FolderName,
    JpegQuality,
    Share,
)


class DataParams(Frozen):
    root: FolderName


class LspCounts(Frozen):
    train: DrawnCount
    test: DrawnCount


class DrawnSplits(Frozen):
    train: DrawnCount
    validation: DrawnCount


class SplitCounts(Frozen):
    train: CountOrZero
    validation: CountOrZero


class SyntheticParams(Frozen):
    """How many synthetic people (coco: images) each set has. size: longer side of the LSP-type images, px."""

    lsp: LspCounts
    lspet: DrawnCount
    mpii: DrawnSplits
    coco: DrawnSplits
    size: Annotated[int, Field(ge=64, le=MAX_SIDE)]


class CocoParams(Frozen):
    """images: at most so many, 0 for all. min_people: people with joints that an image must show.

    longest: long side of the packed images, px. ignore_unlabelled: people without joints are masked from the
    loss, as crowds are. assume_joints: where a file does not say which joints it has. exif: how images
    are read that have the annotated size both as stored and turned upright as their EXIF data says.
    """

    images: SplitCounts
    min_people: SplitCounts
    longest: Annotated[int, Field(ge=32, le=MAX_SIDE)]
    jpeg_quality: JpegQuality
    ignore_unlabelled: bool
    assume_joints: bool
    exif: Literal["stored", "upright"]


# Side of the packed surroundings over the person's height: the crop of 1.25, with room to turn it by 30
# degrees (x 1.37) and to enlarge it by a quarter. Their corners, which are rarely reached, may be missing.
SURROUNDINGS = 1.25 * 1.7


class PrepareParams(Frozen):
    """held_out: shares kept for validation. pack_size: side of a person's packed surroundings, px."""

    lsp_held_out: Share
    lspet_held_out: Share
    mpii_held_out: Share
    pack_size: Annotated[int, Field(ge=32, le=MAX_SIDE)]
    jpeg_quality: JpegQuality
    coco: CocoParams


class DatasetParams(Frozen):
    """A data set of one's own, see `pose.data.prepare.dataset`.

    sources: folders or files, joined. problems: which prepared files are made. skeleton: the name of one that
    comes with the package, or a YAML file; None for the joints of the first source. category: its name, where
    files have several with joints. joints: those of the sources -> joints of the skeleton, where names
    differ. assume_joints: a category without a list of joints has the skeleton's. validation: share of the
    images held out, where a source does not say which ones are.
    """

    sources: Annotated[list[FolderName], Field(min_length=1, max_length=100)]
    problems: Annotated[list[Literal["single", "multi"]], Field(min_length=1, max_length=2)]
    skeleton: FolderName | None
    category: str | None
    joints: dict[str, str]
    assume_joints: bool
    validation: Share
