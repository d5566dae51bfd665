"""What the study consists of, from experiments/evidence/study.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from detnas_nni.config.reading import load_config, parse_section, read_extended
from detnas_nni.config.schema import Config, ConfigPath, Name, Positive, Section

Seed = Annotated[int, Field(ge=0)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
NoSeeds = tuple[Seed, ...]
Strategy = Literal["detnas", "regularized_evolution", "random"]
Strategies = Annotated[tuple[Strategy, ...], Field(min_length=1)]
Start = Literal["pretrained", "own", "scratch"]


class Repeats(Section):
    """The first nets of the sample again, with other seeds."""

    nets: Positive
    seeds: Seeds


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
