"""The categories of a COCO file as classes: unused roots, names that occur twice, other splits' classes."""

from __future__ import annotations

import difflib
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detnas_nni.data.corrections.values import Id, Ids, in_order, written
from detnas_nni.data.problems import Kind, Problems
from detnas_nni.errors import DataError
from detnas_nni.util.text import show

ROOTS = Kind(
    "unused roots",
    "category is not a class: no annotation uses it, and others name it as their supercategory (Roboflow's "
    "project); left out",
    "categories are not classes: no annotation uses them, and others name them as their supercategory; "
    "left out",
)
SAME_NAMES = Kind(
    "categories of one name",
    "category has the name of another; they are one class",
    "categories have the name of another; they are one class",
)
TWICE = Kind(
    "categories listed twice",
    "category is listed twice with the same id and name; taken once",
    "categories are listed twice with the same id and name; taken once",
)
NUMBER_NAMES = Kind(
    "numbers as names", "class name is a number; read as text", "class names are numbers; read as text"
)
ABSENT = Kind(
    "absent classes",
    "class of the training split is not listed here; no object of it is expected",
    "classes of the training split are not listed here; no object of them is expected",
    corrects=False,
)
OTHER_CASE = Kind(
    "names in other letters",
    "category has a class's name in another spelling (case, Unicode); matched",
    "categories have a class's name in another spelling (case, Unicode); matched",
)


@dataclass(frozen=True)
class Categories:
    """The classes of a file.

    Attributes:
        names: K names in the order of their labels.
        ids: the file's own ids for them; a class that the file does not list has none.
        labels: from 1, by the categories' ids; 0 for one that is not a class here.
    """

    names: tuple[str, ...]
    ids: tuple[Id | None, ...]
    labels: Ids[int]
    name_of: dict[str, str]

    def name(self, own: object) -> str:
        """The name of a category, by its id."""
        return self.name_of[str(written(own))]

    @cached_property
    def known_ids(self) -> str:
        """The ids in their order, for messages; once, since every annotation may need it."""
        return show(sorted(self.labels.exact, key=in_order))


@dataclass
class _Category:
    own: Id
    name: str
    parent: object


def read_categories(
    entries: Sequence[Any],
    annotations: Sequence[Any],
    classes: Sequence[str] | None,
    source: Path,
    problems: Problems,
    *,
    lenient: bool = False,
) -> Categories:
    """The classes of a file; an ambiguous defect would change labels, so it is never tolerated.

    Args:
        entries: `categories`.
        annotations: they show which categories are used.
        classes: names in the order of their labels; if None, all of the file's, in the order of their ids.
        source: the file, for messages.
        problems: collects what is corrected.
        lenient: whether a class may be missing, as in a split without objects of it.

    Raises:
        DataError: an entry is invalid, an id occurs twice, or the file lacks a class.
    """
    found = [_read(entry, position, source, problems) for position, entry in enumerate(entries)]
    if not found:
        raise DataError(f"{source}: `categories` is empty; expected at least one category.")
    found = _once(found, source, problems)
    asked = set(classes or ())
    kept = _without_roots(found, annotations, asked, problems)
    by_name = _by_name(kept, problems)
    names = (
        [name for name, _ in sorted(by_name.items(), key=lambda pair: in_order(pair[1][0]))]
        if classes is None
        else _selected(by_name, classes, source, problems, lenient)
    )
    by_label = {own: label for label, name in enumerate(names, 1) for own in by_name.get(name, ())}
    labels: Ids[int] = Ids()
    for category in found:
        labels.add(category.own, by_label.get(category.own, 0))
    ids = tuple(by_name[name][0] if name in by_name else None for name in names)
    return Categories(tuple(names), ids, labels, {str(written(c.own)): c.name for c in found})


def _read(entry: Any, position: int, source: Path, problems: Problems) -> _Category:
    key = f"categories[{position}]"
    if not isinstance(entry, dict):
        raise DataError(f"{source}: `{key}` is {show(entry)}, expected an object with id and name.")
    own, name = entry.get("id"), entry.get("name")
    if written(own) is None:
        raise DataError(f"{source}: `{key}.id` is {show(own)}, expected a number or a text used only once.")
    if type(name) in (int, float):
        problems.correct(NUMBER_NAMES, f"`{key}.name` is {show(name)}")
        name = str(name)
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{source}: `{key}.name` is {show(name)}, expected the name of a class.")
    return _Category(own, name, entry.get("supercategory"))


def _once(found: list[_Category], source: Path, problems: Problems) -> list[_Category]:
    """The categories without repetitions, as merged files have them."""
    kept: dict[str | None, _Category] = {}
    for position, category in enumerate(found):
        first = kept.setdefault(written(category.own), category)
        if folded(first.name) != folded(category.name):
            raise DataError(
                f"{source}: `categories[{position}].id` is {show(category.own)}, expected an id used only "
                f"once: {show(first.name)} and {show(category.name)} have it. Give one of them another "
                "id, also in its annotations."
            )
        if first is not category:
            problems.correct(TWICE, f"`categories[{position}]`, {show(category.name)}")
    return list(kept.values())


def _without_roots(
    found: list[_Category], annotations: Sequence[Any], asked: set[str], problems: Problems
) -> list[_Category]:
    """The categories without those that are only parents of others."""
    children = Counter(category.parent for category in found if isinstance(category.parent, str))
    above = [
        index
        for index, category in enumerate(found)
        if children[category.name] - (category.parent == category.name) > 0
    ]
    if not above or len(above) == len(found):
        return found
    used = _used(annotations)
    twins = Counter(category.name for category in found)
    roots = {
        index
        for index in above
        if str(written(found[index].own)) not in used
        and (found[index].name not in asked or twins[found[index].name] > 1)
    }
    if len(roots) == len(found):
        return found
    for index in sorted(roots):
        problems.correct(ROOTS, f"`categories[{index}]`, {show(found[index].name)}")
    return [category for index, category in enumerate(found) if index not in roots]


def _used(annotations: Sequence[Any]) -> set[str | None]:
    ids = {
        own
        for entry in annotations
        if isinstance(entry, dict) and type(own := entry.get("category_id")) in (int, str, float)
    }
    return {written(own) for own in ids}


def _by_name(kept: list[_Category], problems: Problems) -> dict[str, list[Id]]:
    by_name: dict[str, list[Id]] = {}
    spelled: dict[str, str] = {}  # by appearance: stripped, in one form of Unicode
    for category in kept:
        seen = unicodedata.normalize("NFC", category.name).strip()
        ids = by_name.setdefault(spelled.setdefault(seen, category.name), [])
        if ids:
            problems.correct(
                SAME_NAMES, f"{show(category.name)}, of the ids {show(ids[0])} and {show(category.own)}"
            )
        ids.append(category.own)
    return by_name


def _selected(
    by_name: dict[str, list[Id]], classes: Sequence[str], source: Path, problems: Problems, lenient: bool
) -> list[str]:
    if not classes or len(set(classes)) != len(classes):
        raise DataError(
            f"{source}: `classes` in the config is {show(list(classes))}, expected names used only once."
        )
    spare = [name for name in by_name if name not in classes]
    for name in classes:
        if name in by_name:
            continue
        alike = [other for other in spare if folded(other) == folded(name)]
        if len(alike) == 1:
            problems.correct(OTHER_CASE, f"{show(alike[0])} for {show(name)}")
            by_name[name] = by_name.pop(alike[0])
            spare.remove(alike[0])
        elif lenient:
            problems.correct(ABSENT, of=show(name))
        else:
            near = difflib.get_close_matches(name, list(by_name), n=1)
            raise DataError(
                f"{source}: has no category {show(name)}, which `classes` in the config names; "
                f"it has {show(list(by_name))}{f', nearest {show(near[0])}' if near else ''}."
            )
    return list(classes)


def folded(name: str) -> str:
    """A name for a comparison that ignores case, surrounding blanks and forms of Unicode."""
    return unicodedata.normalize("NFC", name).strip().casefold()
