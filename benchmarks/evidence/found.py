"""The raw lines of one part by subject: what the page's numbers are made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from benchmarks.evidence.lines import Line
from benchmarks.evidence.plan import Found, Ops, drawn, plain_and_largest, spelled
from benchmarks.evidence.settings import SEARCH, Part, Start


@dataclass(frozen=True)
class Evidence:
    """One data set's lines."""

    name: str
    part: Part
    found: Found

    @property
    def sample(self) -> tuple[Ops, ...]:
        """The nets that were drawn at random, whether or not they are trained."""
        return drawn(self.part)

    @property
    def plain_and_largest(self) -> tuple[Ops, Ops]:
        return plain_and_largest(self.part.config)

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of the nets' trainings."""
        repeats = self.part.repeats
        return (0, *(repeats.seeds if repeats is not None else ()))

    @property
    def supernets(self) -> tuple[str, ...]:
        return tuple(f"s{seed}" for seed in self.part.supernets)

    def net(self, ops: Ops, seed: int = 0, start: Start = "pretrained") -> Line | None:
        """A net's training."""
        return self.found["nets"].get(f"{self.name}/net/{spelled(ops)}/{start}/{seed}")

    def nets(self, ops: Ops, seeds: Iterable[int] | None = None, start: Start = "pretrained") -> list[Line]:
        """A net's existing trainings with several seeds."""
        lines = (self.net(ops, seed, start) for seed in (self.seeds if seeds is None else seeds))
        return [line for line in lines if line is not None]

    @cached_property
    def trained(self) -> list[Line]:
        """The trained nets of the sample, with seed 0."""
        return [line for ops in self.sample if (line := self.net(ops)) is not None]

    def fitness(self, nets: Sequence[Line], supernet: str, protocol: str = SEARCH) -> list[Line] | None:
        """A supernet's fitness of nets, in their order; None unless it has one for each."""
        prefix = f"{self.name}/fitness/{supernet}/{protocol}/"
        lines = [self.found["fitness"].get(prefix + spelled(net["ops"])) for net in nets]
        return None if not lines or None in lines else lines  # type: ignore[return-value]

    def search(self, supernet: int | str, strategy: str, seed: int, guide: str = "ap") -> Line | None:
        name = supernet if isinstance(supernet, str) else f"s{supernet}"
        return self.found["searches"].get(f"{self.name}/search/{name}/{guide}/{strategy}/{seed}")


def test_ap(line: Line) -> float:
    """A trained net's AP on the test split."""
    return line["test"]["AP"]
