"""A user's own parts of a search: a strategy or a detector, named in the config by module and factory.

Reading a config imports nothing; the module is imported by the step that needs the part.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from detnas_nni.errors import ConfigError


@dataclass(frozen=True)
class KnownOrOwn:
    """pydantic's validator of a value that is one of the known names, or `package.module:factory`."""

    known: tuple[str, ...]

    def __call__(self, name: str) -> str:
        module, colon, factory = name.partition(":")
        if name in self.known or (colon and factory.isidentifier() and _is_module(module)):
            return name
        raise ValueError(f"expected {', '.join(self.known)}, or package.module:factory of your own")


def is_own(name: str) -> bool:
    """Whether a name in the config is a user's factory, not one of the package's names."""
    return ":" in name


def load_factory(key: str, name: str) -> Callable[..., Any]:
    """The callable that `package.module:factory` names. Raises ConfigError that names the config's key."""
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ConfigError(
            f"{key}: cannot import {module_name!r} of {name!r} ({error}); is it on PYTHONPATH?"
        ) from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ConfigError(f"{key}: the module {module_name!r} has no callable {factory_name!r}")
    return factory


def _is_module(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))
