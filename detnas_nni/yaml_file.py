"""Read YAML as plain values: safely, numbers as people write them, every mistake a ConfigError."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from detnas_nni.errors import ConfigError

_SIZE_LIMIT = 1_000_000  # bytes; a config is a page, not a data set


def read_mapping(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file. Raises ConfigError that names the file."""
    try:
        if path.stat().st_size > _SIZE_LIMIT:
            raise ConfigError(f"{path}: larger than {_SIZE_LIMIT} bytes; this is not a config")
        values = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot be read ({error.strerror}); give the path of an experiment's YAML"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError, TypeError) as error:
        raise ConfigError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: expected a mapping of sections, got {type(values).__name__}")
    return values


def override_value(values: dict[str, Any], override: str) -> None:
    """Set one value of nested mappings, in place, by `section.key=value` with the value in YAML."""
    key, equals, text = override.partition("=")
    if not equals:
        raise ConfigError(f"override {override!r}: expected section.key=value")
    try:
        value = yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ConfigError(f"override {override!r}: {' '.join(str(error).split())}") from None
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"override {override!r}: `{parent}` is not a section")
    values[last] = value


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, reading 1e-4 as a number (YAML 1.1 wants 1.0e-4) and refusing a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        # `<<` merges another mapping's keys, and may stand twice.
        own = [key for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key in own]
        for position, key in enumerate(keys):
            if key in keys[:position]:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} stands twice", node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\d[\d_]*\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+0123456789.")
)
