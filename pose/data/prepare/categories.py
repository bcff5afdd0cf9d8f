"""Which category of a COCO-format file is trained on, and its joints as those of a skeleton."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pose.data.formats.coco_json import Entry, unfit_categories
from pose.data.prepare.summary import Changes
from pose.io.errors import UserError
from pose.io.schema import parse, read_yaml
from pose.keypoints.skeleton import Skeleton, built_in, built_in_with, joint_places, side_and_part

OPTIONS = {"category": "--category", "assumed": "--skeleton NAME"}  # of `pose score` and `pose convert`
PEOPLE = {"person", "persons", "people", "human", "humans"}  # names of the category, in any case


@dataclass(frozen=True)
class Joints:
    """Which joints a data set has, and where they are in its files.

    skeleton: None for that of the files. completes: keys of a skeleton that categories do not have, from
    `file`. category: its name, where a file has several with joints. renamed: joints of the files -> joints
    of the skeleton, where names differ; others that the skeleton lacks are then left out. assumed: a category
    without a list of joints has those of the skeleton. name: given to the category. ways: how users say
    `category`, `renamed` and `assumed`, for messages, as far as they can.
    """

    skeleton: Skeleton | None = None
    completes: Mapping[str, Any] = field(default_factory=dict)
    file: str = ""
    category: str | None = None
    renamed: Mapping[str, str] = field(default_factory=dict)
    assumed: bool = False
    name: str | None = None
    ways: Mapping[str, str] = field(default_factory=OPTIONS.copy)


@dataclass(frozen=True)
class Category:
    """The category of a file. joints: its own. source_K: of each joint of the skeleton its place in them."""

    id: int
    skeleton: Skeleton
    joints: tuple[str, ...]
    source_K: tuple[int, ...]

    @property
    def lacking(self) -> tuple[int, ...]:
        """Places of the skeleton's joints that the file lacks."""
        return tuple(place for place, k in enumerate(self.source_K) if k < 0)

    def keypoints(self, numbers: list[Any]) -> list[Any]:
        """x, y, flag of the skeleton's joints from those of the file's; zeros for joints that it lacks."""
        return [n for k in self.source_K for n in (numbers[3 * k : 3 * k + 3] if k >= 0 else [0, 0, 0])]


def named_skeleton(text: str | None, name: str) -> tuple[Skeleton | None, dict[str, Any]]:
    """A skeleton that comes with the package, or of a YAML file; or what such a file without joints says.

    name: of a skeleton whose file gives none. UserError if there is no such skeleton or file.
    """
    if not text:
        return None, {}
    if not text.endswith((".yaml", ".yml")):
        return built_in(text), {}
    values = read_yaml(text)
    return (parse(Skeleton, {"name": name} | values, text), {}) if "joints" in values else (None, values)


def read_category(content: Entry, path: Path, joints: Joints, changes: Changes) -> Category:
    """The category that is trained on; its entry in `content` gets the skeleton's joints and limbs.

    Others of the same joints (species, say), and other categories of people, become it. UserError, naming the
    file, if there is none, or if it has other joints than the data set.
    """
    entries: list[Entry] = content["categories"]
    chosen = _choose(entries, path, joints)
    name, listed = chosen.get("name"), chosen.get("keypoints")
    same = [one for one in entries if one is not chosen and _belongs(one, chosen) and not joints.category]
    category = _match_joints(chosen, path, joints, changes)
    others = {one["id"] for one in same}
    for annotation in content["annotations"]:
        if annotation.get("category_id") in others:
            changes.add("of a second category of people", f"annotation {annotation.get('id')!r}")
            annotation["category_id"] = chosen["id"]
    if joints.name and name != joints.name:
        changes.add(f"category taken for {joints.name!r}", repr(name))
        chosen["name"] = joints.name
    if listed != [*category.skeleton.joints]:
        chosen["keypoints"] = [*category.skeleton.joints]
        chosen["skeleton"] = [[one + 1, other + 1] for one, other in category.skeleton.limbs]  # as published
    content["categories"] = [one for one in entries if one not in same]
    if joints.category:  # others may have the same joints
        for one in entries:
            if one is not chosen:
                one.pop("keypoints", None)
    return category


def _choose(entries: list[Entry], path: Path, joints: Joints) -> Entry:
    with_joints = [one for one in entries if one.get("keypoints")]
    uses = Counter(str(one.get("name")) for one in with_joints)
    if uses and max(uses.values()) > 1:
        twice = uses.most_common(1)[0][0]
        raise UserError(f"{path}: found two categories {twice!r}, expected a name of its own for each")
    if joints.category:
        named = [one for one in entries if one.get("name") == joints.category]
        if not named:
            raise unfit_categories(entries, path, f"{joints.category!r} ({joints.ways['category']})")
        return named[0]
    people = [one for one in entries if _is_people(one)]
    found = [one for one in people if one.get("keypoints")] or people
    fitting = [one for one in with_joints if joints.skeleton and _fits(one["keypoints"], joints.skeleton)]
    if not found or (found[0].get("keypoints") and not joints.name):  # one's own may be of anything
        found = sorted(fitting or with_joints, key=_is_people, reverse=True)
        if joints.name and joints.skeleton and not fitting:  # of people, which nothing else is taken for
            expected = f"{joints.name!r} among them, or one with the joints of {joints.skeleton.name}"
            raise unfit_categories(entries, path, expected)
    if not found:
        raise unfit_categories(entries, path, "one with a list of keypoints")
    if any(one.get("keypoints") != found[0].get("keypoints") for one in found):
        way = joints.ways.get("category")
        raise unfit_categories(found, path, f"one of them, by {way}" if way else "one of people")
    return found[0]


def _match_joints(entry: Entry, path: Path, joints: Joints, changes: Changes) -> Category:
    where = f"{path}: category {entry.get('name')!r}"
    listed, skeleton = entry.get("keypoints"), joints.skeleton
    if not listed:
        if skeleton is None or not joints.assumed:
            found = f"{where} has no list of keypoints to say which joints it has, expected the list"
            order = f"{skeleton.name}'s {len(skeleton)} in their order" if skeleton else "those of a skeleton"
            raise UserError(f"{found}, or {joints.ways['assumed']} if they are {order}")
        changes.add(f"category without a list of keypoints, taken for {skeleton.name}'s", repr(entry["name"]))
        listed = [*skeleton.joints]
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        raise UserError(f"{where}: keypoints: found {str(listed)[:80]}, expected a list of names")
    if skeleton is None and not joints.completes:
        skeleton = built_in_with(listed)
    if skeleton is None:
        source = f"{joints.file}, with the joints of {where}" if joints.completes else where
        skeleton = parse(Skeleton, _as_skeleton(entry, where) | dict(joints.completes), source)
    for target in joints.renamed.values():
        if target not in skeleton.joints:
            found = f"{joints.ways['renamed']}: found {target!r}"
            raise UserError(f"{found}, expected a joint of {skeleton.name}")
    source_K = tuple(joint_places(skeleton.joints, [joints.renamed.get(one, one) for one in listed]))
    missing = [joint for joint, k in zip(skeleton.joints, source_K, strict=True) if k < 0]
    unknown = [joint for k, joint in enumerate(listed) if k not in source_K]
    if (unknown and not joints.renamed) or (missing and joints.name) or len(missing) == len(skeleton):
        found = f"{unknown[0]!r} is none of" if unknown else f"no {missing[0]!r}, one of"
        more = f", or {joints.ways['renamed']} to say which is which" if "renamed" in joints.ways else ""
        raise UserError(
            f"{where}: keypoints: found {found} the joints of {skeleton.name}, expected these{more}"
        )
    if missing:
        changes.add("joints that the file lacks", missing[0], len(missing))
    if unknown:
        changes.add(f"joints that {skeleton.name} lacks, left out", unknown[0], len(unknown))
    if list(source_K) != sorted(source_K):
        changes.add(f"joints put into the order of {skeleton.name}", repr(listed[0]))
    elif not missing and listed != [*skeleton.joints]:
        changes.add(f"names of joints read as those of {skeleton.name}", repr(listed[0]))
    return Category(entry["id"], skeleton, tuple(listed), source_K)


def _as_skeleton(entry: Entry, where: str) -> dict[str, Any]:
    """The keys of a skeleton that a category has. Its limbs count joints from 1."""
    values = {"name": str(entry.get("name")), "joints": entry["keypoints"]}
    limbs = entry.get("skeleton") or []
    try:
        first = min((int(joint) for limb in limbs for joint in limb), default=1)
        start = min(first, 1)  # some tools count from 0
        return values | {"limbs": [(one - start, other - start) for one, other in limbs]}
    except (TypeError, ValueError):
        found = f"skeleton: found {str(limbs)[:80]}"
        raise UserError(f"{where}: {found}, expected pairs of joints, counted from 1") from None


def _fits(listed: Sequence[object], skeleton: Skeleton) -> bool:
    names = {side_and_part(str(joint)) for joint in listed}
    return names == {side_and_part(joint) for joint in skeleton.joints}


def _belongs(entry: Entry, chosen: Entry) -> bool:
    """Whether its annotations are of the chosen category too."""
    if _is_people(entry) and _is_people(chosen):
        return True
    return bool(entry.get("keypoints")) and entry.get("keypoints") == chosen.get("keypoints")


def _is_people(entry: Entry) -> bool:
    return str(entry.get("name")).strip().lower() in PEOPLE
