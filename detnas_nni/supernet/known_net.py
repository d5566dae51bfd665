"""The net that a training's paths are drawn around, or that a search begins with."""

from __future__ import annotations

from typing import Literal

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.errors import ArchitectureError, ConfigError


def known_net(config: Config, section: Literal["finetune", "search"]) -> Architecture | None:
    """What `finetune.around` or `search.around` names; None if nothing.

    Raises ConfigError for ops that the space does not have.
    """
    ops = getattr(config, section).around
    try:
        return None if ops is None else Architecture(config.space.name, ops)
    except ArchitectureError as error:
        text = str(error).removeprefix("architecture: ")
        raise ConfigError(f"{section}.around: {text}") from error
