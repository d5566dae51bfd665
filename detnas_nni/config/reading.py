"""Read an experiment's YAML as a `Config`: every mistake is one line with file, key, value and remedy.

Values are plain, and numbers may be written naturally. A file may start from the values of others, so that
what experiments share is written once:

    extends: [../shared/paper.yaml, ../shared/coco.yaml] # or one path

- A base's path is relative to the file that names it. A base may extend others in turn; a cycle is an error.
- Mappings are merged key by key, at any depth. Everything else is replaced: a list as a whole, and `null`
  clears the value.
- A later base wins over an earlier one, including what it inherited; the file wins over its bases.
- Only `extends` itself is relative to the base's folder. All other relative paths start at the folder of the
  file that is read, even those in a base: a base names data by `${NAME}`, or by a `../` path that leads to
  the same place from every file that extends it.

An error in a merged value names the file that was asked for, since that is the one that has to be consistent.
"""

from __future__ import annotations

import json
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from detnas_nni.config.data_sections import SPLIT_FORMS, TAGS
from detnas_nni.config.schema import Config
from detnas_nni.config.section import Section
from detnas_nni.errors import ConfigError
from detnas_nni.util.text import show

# A config is a page, not a data set. The limits are far above any real one, yet low enough to refuse quickly.
_SIZE_LIMIT = 1_000_000  # bytes
_VALUE_LIMIT = 10_000  # an alias counts as everything it stands for: ten lines of aliases can be 10^10 values
_NUMBER_LIMIT = 100  # characters; reading a base-60 number takes time quadratic in its length
_FILE_LIMIT = 20  # that one file extends, directly or not; a file counts each time it is read


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError that names the file."""
    try:
        with path.open("rb") as file:
            content = file.read(_SIZE_LIMIT + 1)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of an experiment's YAML"
        ) from None
    if len(content) > _SIZE_LIMIT:
        raise ConfigError(f"{path}: larger than {_SIZE_LIMIT} bytes; this is not a config")
    try:
        values = _parse(content.decode("utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def read_extended(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file, merged over those that it extends; without `extends` itself.

    Raises ConfigError that names the file with the mistake: a base that is missing, no mapping, or leads back
    to a file that extends it; an `extends` that is neither a path nor a list of paths; too many bases.
    """
    try:
        return _extended(path, (), count())
    except RecursionError:
        raise ConfigError(f"{path}: a mapping contains itself through a YAML alias; write it out") from None


def _extended(path: Path, above: tuple[Path, ...], number: Iterator[int]) -> dict[str, Any]:
    """As `read_extended`; `above` are the files that led here, resolved; `number` counts those read."""
    if next(number) > _FILE_LIMIT:
        raise ConfigError(f"{path}: extends: more than {_FILE_LIMIT} files are extended in all")
    values = read_mapping(path)
    bases = _bases(values.pop("extends", []), path)
    above = (*above, path.resolve())
    merged: dict[str, Any] = {}
    for name in bases:
        base = path.parent / name
        if not _is_file(base):
            raise ConfigError(
                f"{path}: extends: {name} is not a file; the path starts at {path.parent}, the folder of "
                "the file that names it"
            )
        if base.resolve() in above:
            raise ConfigError(f"{path}: extends: {name} extends this file in turn; remove one of the two")
        merged = _merged(merged, _extended(base, above, number))
    return _merged(merged, values)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name that is too long, a folder without read permission
        return False


def _bases(extends: Any, path: Path) -> list[str]:
    bases = [extends] if isinstance(extends, str) else extends
    if not isinstance(bases, list) or not all(isinstance(base, str) and base for base in bases):
        raise ConfigError(
            f"{path}: extends: expected the path of a YAML file, or a list of such paths, got {show(extends)}"
        )
    return bases


def _merged(below: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in values.items():
        before = merged.get(key)
        both = isinstance(before, dict) and isinstance(value, dict)
        merged[key] = _merged(before, value) if both else value
    return merged


def override_value(values: dict[str, Any], override: str) -> None:
    """Set one value of nested mappings, in place, by `section.key=value`, the value in YAML."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: expected section.key=value")
    if key.partition(".")[0] == "extends":
        raise ConfigError(
            f"override {override!r}: what a file extends is read before its values are changed; write "
            "`extends` into the file"
        )
    try:
        value = _parse(text)
    except ValueError as error:
        raise ConfigError(f"override {override!r}: {error}") from None
    *parents, last = key.split(".")
    for parent in parents:
        section = values.get(parent, {})
        if not isinstance(section, dict):
            raise ConfigError(f"override {override!r}: `{parent}` is not a section")
        # A copy: through a YAML alias another key may hold the same mapping, which must not change.
        values[parent] = dict(section)
        values = values[parent]
    values[last] = value


def _parse(text: str) -> Any:
    """The value of a YAML text. Raises ValueError with one line for whatever is wrong with it."""
    try:
        return yaml.load(text, Loader=_Loader)
    except MemoryError:
        raise
    except RecursionError:
        reason = "nested too deeply"
    except (yaml.YAMLError, ValueError) as error:
        reason = str(error)
    except Exception as error:  # `!!bool maybe` is a KeyError, `!!int ""` an IndexError, and so on
        reason = f"{type(error).__name__}: {error}"
    raise ValueError(" ".join(reason.split())[:500])


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which also reads 1e-4 as a number (YAML 1.1 wants 1.0e-4).

    It refuses duplicate keys, aliases that multiply values, numbers of hundreds of digits, and strings that
    could not be a file name.
    """

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._values = 0
        self._sizes: dict[yaml.Node, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        before, is_alias = self._values, self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        # An alias inside its own anchor has no size yet and counts as one here; it is refused later.
        self._values += self._sizes.get(node, 1) if is_alias else 1
        if not is_alias:
            self._sizes[node] = self._values - before
        if self._values > _VALUE_LIMIT:
            raise _refusal(f"more than {_VALUE_LIMIT} values, with aliases written out", node)
        return node

    def construct_scalar(self, node: yaml.Node) -> Any:
        value = super().construct_scalar(node)
        if node.tag in _NUMBERS and len(value) > _NUMBER_LIMIT:
            raise _refusal(f"a number of {len(value)} characters", node)
        if _NO_TEXT.search(value):
            raise _refusal(f"the string {show(value)} has a NUL or half of a surrogate pair in it", node)
        return value

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # `<<` merges another mapping's keys, and may occur twice.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        seen: set[Any] = set()
        for key in keys:
            if not isinstance(key, Hashable):
                break  # which the call below refuses with its own message
            if key in seen:
                raise _refusal(f"the key {show(key)} occurs twice", node)
            seen.add(key)
        return super().construct_mapping(node, deep)


_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")


def _refusal(reason: str, node: yaml.Node) -> yaml.YAMLError:
    return yaml.constructor.ConstructorError(None, None, reason, node.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes what `_Loader` would read as a number, such as a class that is called 1e5."""


for _reader_or_writer in (_Loader, _Dumper):
    _reader_or_writer.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"),
        list("-+0123456789."),
    )


def to_yaml(value: Any, **options: Any) -> str:
    """YAML that `load_config` reads as this value, in the given order; options are those of `yaml.dump`."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, **options)


AnySection = TypeVar("AnySection", bound=Section)

# How much is reported for a file that is not a config, with maybe thousands of mistakes in long values.
_SHOWN = 20  # mistakes
_LENGTH = 300  # characters of a value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The config in a YAML file, merged with what it extends, then changed by `section.key=value` overrides.

    Raises ConfigError that names the file, the key, the value and what was expected.
    """
    path = Path(path)
    values = read_extended(path)
    for override in overrides:
        override_value(values, override)
    return parse_config(values, source=str(path), folder=path.resolve().parent)


def parse_config(values: Mapping[str, Any], *, source: str = "config", folder: Path | None = None) -> Config:
    """A Config from plain values; `folder` is where relative paths start, `source` is named in errors."""
    return parse_section(Config, _completed(values), source=source, folder=folder)


def _completed(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """With a final net's trainings filled up with the supernet's values: they name only what differs."""
    retraining = values.get("retrain")
    if not isinstance(retraining, dict):
        return values
    whole = {
        stage: {**values[stage], **retraining[stage]}
        for stage in ("pretrain", "finetune")
        if isinstance(values.get(stage), dict) and isinstance(retraining.get(stage), dict)
    }
    return {**values, "retrain": {**retraining, **whole}}


def parse_section(
    section: type[AnySection], values: Mapping[str, Any], *, source: str, folder: Path | None = None
) -> AnySection:
    """A section, or the whole config, from plain values; arguments and errors as of `parse_config`."""
    try:
        # Through JSON, because pydantic's strict mode then accepts a list for a tuple and a string for a path
        # but still refuses "5" for 5. What JSON lacks (YAML has dates) becomes a string.
        text = json.dumps(values, default=str)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{source}: {error}; only numbers, strings, lists and mappings are allowed"
        ) from None
    try:
        return section.model_validate_json(text, strict=True, context={"folder": folder or Path.cwd()})
    except ValidationError as error:
        problems = _not_copied(error.errors())
        lines = [_explain(section, source, problem) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"{source}: and {len(problems) - _SHOWN} more mistakes")
        raise ConfigError("\n".join(lines)) from None


def _not_copied(problems: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Without those of a final net's trainings that are the supernet's own, copied by `_completed`."""

    def mistake(problem: Mapping[str, Any], location: tuple[Any, ...]) -> tuple[Any, ...]:
        given = problem["input"]
        return location, problem["msg"], None if isinstance(given, dict) else repr(given)

    told = {mistake(problem, problem["loc"]) for problem in problems}
    return [
        problem
        for problem in problems
        if problem["loc"][:1] != ("retrain",) or mistake(problem, problem["loc"][1:]) not in told
    ]


def _explain(section: type[Section], source: str, problem: Mapping[str, Any]) -> str:
    """One line for one of pydantic's problems: file, key, what was expected, and the value."""
    location = [part for part in problem["loc"] if part not in TAGS]
    key = ".".join(str(part) for part in location) or "(top level)"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(_known_keys(section, problem["loc"][:-1]))
        return f"{source}: {key}: unknown key; known here: {known}"
    if problem["type"] == "missing":
        return f"{source}: {key}: missing; it has no default"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error" and not location:  # about several sections; it names the keys
        return f"{source}: {message}"
    given = problem["input"]
    shown = "" if isinstance(given, dict) else f", got {given!r}"
    return f"{source}: {key}: {message}{shown if len(shown) <= _LENGTH else f'{shown[:_LENGTH]}…'}"


def _known_keys(section: type[Section], location: Sequence[Any]) -> list[str]:
    """The keys of the subsection at a location, as pydantic names it."""
    sections = [section]
    for part in location:
        if part in SPLIT_FORMS:
            sections = [SPLIT_FORMS[part]]
        if part in TAGS or isinstance(part, int):
            continue
        annotations = [s.model_fields[part].annotation for s in sections if part in s.model_fields]
        sections = [found for annotation in annotations for found in _sections_of(annotation)]
    known = sorted({key for section in sections for key in section.model_fields})
    return [*known, "extends"] if sections == [Config] else known


def _sections_of(annotation: Any) -> list[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return [annotation]
    return [section for part in getattr(annotation, "__args__", ()) for section in _sections_of(part)]
