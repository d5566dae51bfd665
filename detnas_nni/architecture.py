"""`Architecture`: the currency that every step takes and gives.

One architecture of a space, as ops (one index a block, the paper's notation) and as choices (label to
candidate, NNI's notation), from and to JSON. Importing this is cheap: no torch, no NNI.
"""

import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import Any

from detnas_nni.errors import ArchitectureError
from detnas_nni.util.files import write_text
from detnas_nni.util.text import show
from search_spaces import Choice, SpaceError, layout

FORMAT = 1
"""The version of the file format that this package reads and writes."""

MAX_FILE_BYTES = 1_000_000
"""No architecture file comes near; what is larger is another file, named by mistake."""


Ops = tuple[int, ...]
"""One candidate's index for each block, in the order of the blocks."""


@dataclass(frozen=True)
class Architecture:
    """One architecture of a search space; hashable, and valid once it is made.

    `space` is a name that `search_spaces.layout` knows; `ops` has one index into the candidates for each
    block, in block order. Raises `ArchitectureError` for an unknown space, a wrong number of ops, and an op
    that is no integer or out of range.
    """

    space: str
    ops: Ops

    def __post_init__(self) -> None:
        object.__setattr__(self, "ops", _checked_ops(self.space, self.ops, "architecture"))

    @classmethod
    def from_ops(cls, space: str, ops: Sequence[int]) -> "Architecture":
        """From any sequence of integers, NumPy's too. Raises `ArchitectureError`."""
        return cls(space, tuple(ops))

    @classmethod
    def from_choices(cls, space: str, choices: Mapping[str, str | int]) -> "Architecture":
        """From NNI's notation: every label of the space, and no other, with one of its candidates.

        Raises `ArchitectureError` for a label that is missing or unknown, and an unknown candidate.
        """
        return cls(space, _ops_of_choices(space, choices, "architecture"))

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], source: str = "architecture", *, trusted: Collection[str] = ()
    ) -> "Architecture":
        """From the contract's JSON object; `ops` or `choices` may be absent, and if not they have to agree.

        `source` names the file in messages. To know a space "package.module:factory" is to import and to call
        it, which no file may ask for: such a space has to be among the `trusted` names, those that the user
        or the config gives. Raises `ArchitectureError` for one that is not, and for anything that does not
        fit.
        """
        if document.get("format") != FORMAT:
            raise ArchitectureError(
                f"{source}: key 'format' is {show(document.get('format'))}, expected {FORMAT}"
            )
        space = document.get("space")
        if not isinstance(space, str):
            raise ArchitectureError(
                f"{source}: key 'space' is {show(space)}, expected the name of a search space"
            )
        if ":" in space and space not in trusted:
            raise ArchitectureError(
                f"{source}: key 'space' is {show(space)}, which names code, and no file gets code run: if "
                "you trust it, name the same space in the config, or by --space"
            )
        if "ops" not in document and "choices" not in document:
            raise ArchitectureError(f"{source}: has neither 'ops' nor 'choices'")
        by_ops = by_choices = None
        if "ops" in document:
            by_ops = _checked_ops(space, document["ops"], source)
        if "choices" in document:
            by_choices = _ops_of_choices(space, document["choices"], source)
        if by_ops and by_choices and by_ops != by_choices:
            index = next(i for i, (a, b) in enumerate(zip(by_ops, by_choices, strict=True)) if a != b)
            choice = layout(space)[index]
            raise ArchitectureError(
                f"{source}: 'ops' and 'choices' contradict in block {index}: op {by_ops[index]} is "
                f"{choice.candidates[by_ops[index]]!r}, but choices[{choice.label!r}] is "
                f"{document['choices'][choice.label]!r}; correct one, or leave one out"
            )
        return cls(space, by_choices if by_ops is None else by_ops)

    @classmethod
    def from_json(cls, path: str | os.PathLike[str], *, trusted: Collection[str] = ()) -> "Architecture":
        """From a file such as best_architecture.json; `trusted` as `from_dict` has it.

        Raises `ArchitectureError` that names the file.
        """
        return cls.from_dict(read_document(path), str(path), trusted=trusted)

    @property
    def choices(self) -> dict[str, str | int]:
        """Label to candidate, in block order; goes straight into NNI's `model_context`."""
        blocks = zip(layout(self.space), self.ops, strict=True)
        return {choice.label: choice.candidates[op] for choice, op in blocks}

    def to_dict(
        self,
        cost: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """The contract's JSON object; what is None becomes an empty object."""
        return {
            "format": FORMAT,
            "space": self.space,
            "ops": list(self.ops),
            "choices": self.choices,
            "cost": dict(cost or {}),
            "metrics": dict(metrics or {}),
            "provenance": dict(provenance or {}),
        }

    def save(
        self,
        path: str | os.PathLike[str],
        cost: Mapping[str, Any] | None = None,
        metrics: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> None:
        """Write the JSON file, folders included; a reader sees the old file or the whole new one."""
        write_text(Path(path), _format_document(self.to_dict(cost, metrics, provenance)))

    def __str__(self) -> str:
        """The ops alone, "2,1,2,0", as `detnas count --ops` takes them."""
        return ",".join(map(str, self.ops))


def parse_ops(text: str) -> Ops:
    """ "2,1,2,0" to (2, 1, 2, 0); spaces do no harm. Raises `ArchitectureError` for anything else."""
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdigit()):
            raise ArchitectureError(
                f"ops {text!r}: {part!r} is not a number; expected one a block, such as 2,1,2,0"
            )
    return tuple(map(int, parts))


def read_document(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The whole JSON object of an architecture file: cost, metrics and provenance too.

    Raises `ArchitectureError` if the file cannot be read, is larger than 1 MB, or is not a JSON object. What
    the object says is checked by `Architecture.from_dict`.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ArchitectureError(
                f"{path}: {size:,} bytes; an architecture file has at most {MAX_FILE_BYTES:,}"
            )
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES)  # what is no regular file states no size
        document = json.loads(content.decode("utf-8"))
    except OSError as error:
        raise ArchitectureError(f"{path}: cannot be read ({error.strerror})") from error
    # Deep nesting is a RecursionError, and bytes that are no UTF-8 or JSON a ValueError.
    except (ValueError, RecursionError) as error:
        raise ArchitectureError(f"{path}: is not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ArchitectureError(f"{path}: is not a JSON object, but {type(document).__name__}")
    return document


def _layout(space: str, source: str) -> tuple[Choice, ...]:
    try:
        return layout(space)
    except SpaceError as error:
        raise ArchitectureError(f"{source}: key 'space': {error}") from error


def _checked_ops(space: str, ops: Any, source: str) -> Ops:
    choices = _layout(space, source)
    if not isinstance(ops, list | tuple):
        raise ArchitectureError(f"{source}: key 'ops' is {show(ops)}, expected a list of integers")
    if len(ops) != len(choices):
        raise ArchitectureError(
            f"{source}: key 'ops' has {len(ops)} values; space {space!r} has {len(choices)} blocks"
        )
    for index, (op, choice) in enumerate(zip(ops, choices, strict=True)):
        # A bool is an int to Python, and means that something else was meant.
        if isinstance(op, bool) or not isinstance(op, Integral):
            raise ArchitectureError(f"{source}: ops[{index}] is {show(op)}, expected an integer")
        if not 0 <= op < len(choice.candidates):
            raise ArchitectureError(
                f"{source}: ops[{index}] is {show(op)}, expected 0 to {len(choice.candidates) - 1} "
                f"({', '.join(map(str, choice.candidates))})"
            )
    return tuple(map(int, ops))


def _ops_of_choices(space: str, choices: Any, source: str) -> Ops:
    expected = _layout(space, source)
    if not isinstance(choices, Mapping):
        raise ArchitectureError(f"{source}: key 'choices' is {show(choices)}, expected an object")
    labels = {choice.label for choice in expected}
    known = f"has {expected[0].label} to {expected[-1].label}" if expected else "is a fixed net without any"
    for label in choices:
        if label not in labels:
            raise ArchitectureError(
                f"{source}: choices has the unknown label {show(label)}; space {space!r} {known}"
            )
    ops = []
    for choice in expected:
        if choice.label not in choices:
            raise ArchitectureError(f"{source}: choices lacks the label {choice.label!r}")
        candidate = choices[choice.label]
        if isinstance(candidate, bool) or candidate not in choice.candidates:
            raise ArchitectureError(
                f"{source}: choices[{choice.label!r}] is {show(candidate)}, expected one of "
                f"{', '.join(map(str, choice.candidates))}"
            )
        ops.append(choice.candidates.index(candidate))
    return tuple(ops)


def _format_document(document: Mapping[str, Any]) -> str:
    """JSON that reads well: the ops on one line, objects with one line a key."""
    lines = []
    for key, value in document.items():
        indent = 2 if isinstance(value, dict) and value else None
        text = json.dumps(value, indent=indent, ensure_ascii=False).replace("\n", "\n  ")
        lines.append(f"  {json.dumps(key)}: {text}")
    return "{\n" + ",\n".join(lines) + "\n}\n"
