"""What the study consists of, from experiments/evidence/study.yaml."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from detnas_nni.config.reading import load_config, parse_section, read_extended
from detnas_nni.config.schema import Config, ConfigPath, Name, Positive, Section

Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
OtherSeeds = Annotated[tuple[Positive, ...], Field(min_length=1)]
"""All but 0, with which every net is trained anyway."""
NoSeeds = tuple[Seed, ...]
Strategy = Literal["detnas", "regularized_evolution", "random"]
Strategies = Annotated[tuple[Strategy, ...], Field(min_length=1)]
Start = Literal["pretrained", "own", "scratch"]

SEARCH = "search"
"""The protocol with which a search measures its candidates."""

_COUNTED = ("seed", "space", "detector", "pretrain", "finetune", "evaluation", "search", "retrain")


class Repeats(Section):
    """The first nets of the sample again, with other seeds."""

    nets: Positive
    seeds: OtherSeeds


class Noise(Section):
    """AP of the first nets on test images drawn with replacement."""

    nets: Positive
    resamples: Positive


class Searches(Section):
    """Searches guided by AP: each strategy with each seed in each supernet."""

    strategies: Strategies
    seeds: Seeds
    more_seeds: NoSeeds = ()


class Winners(Section):
    """The best of each search, trained on its own: for these strategies, with these training seeds."""

    strategies: Strategies
    seeds: Seeds


class Protocol(Section):
    """A way to measure a candidate in a supernet, other than the search's."""

    set: tuple[str, ...] = Field((), description="what differs in the config, as `section.key=value`")
    statistics: Literal["recalibrated", "supernet", "reset"] = Field(
        "recalibrated", description="of BN: the path's own, those of all paths, or mean 0 and variance 1"
    )


class Starts(Section):
    """Where the trunk of one net may start."""

    names: tuple[Start, ...]
    seeds: Seeds


class Minutes(Section):
    """Minutes for a run of each kind on one core: the plan's estimate; nothing else depends on it."""

    pretrain: float = 1.5
    finetune: float = 3.0
    net: float = 1.5
    evaluation: float = 0.06
    noise: float = 0.5


class Part(Section):
    """The study of one data set."""

    config: ConfigPath
    shapes: dict[str, int] | None = Field(
        None, description="the images are drawn, in RUN_DIR/data, with these arguments of `generate_shapes`"
    )
    crops: bool = Field(False, description="the boxes are cut out to pre-train on")
    supernets: Seeds
    nets: Positive
    repeats: Repeats | None = None
    noise: Noise | None = None
    searches: Searches | None = None
    classification_searches: NoSeeds = ()
    winners: Winners | None = None
    protocols: dict[Name, Protocol] = Field({})
    supernet_variants: dict[Name, tuple[str, ...]] = Field(
        {}, description="supernets fine-tuned otherwise: what differs in the config"
    )
    own_starts: int = Field(0, ge=0)
    starts: Starts | None = None
    minutes: Minutes = Minutes()

    @field_validator("protocols")
    @classmethod
    def _expect_others(cls, protocols: dict[str, Protocol]) -> dict[str, Protocol]:
        if SEARCH in protocols:
            raise ValueError(f"{SEARCH!r} is the search's own protocol, to which the others are compared")
        return protocols

    @property
    def identity(self) -> str:
        """A hash of the config values on which all numbers depend; the same on every machine."""
        said = read_extended(self.config)
        values = {key: said.get(key) for key in _COUNTED} | {"shapes": self.shapes, "crops": self.crops}
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]

    def load(self, *overrides: str) -> Config:
        """The data set's config with `section.key=value` changes."""
        return load_config(self.config, overrides)


class Study(Section):
    """The whole study."""

    lines: ConfigPath
    parts: dict[Name, Part]
    order: tuple[str, ...] = Field(description="PART.STEP, the most important first")


def read_study(path: Path) -> Study:
    """Raises ConfigError that names the file, the key, the value and what was expected."""
    return parse_section(Study, read_extended(path), source=str(path), folder=path.resolve().parent)
