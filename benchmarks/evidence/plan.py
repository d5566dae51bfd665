"""What there is to run, and in which order; winners of searches are added when the searches have ended."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from benchmarks.evidence.lines import Line
from benchmarks.evidence.settings import SEARCH, Part, Start, Study
from detnas_nni.config import Search
from detnas_nni.config.reading import parse_section, read_extended
from detnas_nni.cost.limits import FeasibleSet, Limits
from detnas_nni.cost.table import CostTable, cost_table
from detnas_nni.errors import ConfigError, ConstraintError
from detnas_nni.util.seeding import generator

Ops = tuple[int, ...]
Found = Mapping[str, Mapping[str, Line]]
"""Raw lines: kind, then key."""


@dataclass(frozen=True)
class Run:
    """One piece of work: done when all of its lines exist."""

    kind: str
    """the kind of its lines: `supernets`, `nets`, `fitness`, `searches` or `noise`"""
    part: str
    keys: tuple[str, ...]
    questions: str
    """the letters of the questions that need it first"""
    minutes: float
    """estimate, on one core"""
    needs: tuple[str, ...] = ()
    """keys of the runs whose weights it starts from"""
    ops: tuple[Ops, ...] = ()
    supernet: str = ""
    """such as `s0` or `s0-half`"""
    protocol: str = SEARCH
    strategy: str = ""
    guide: str = "ap"
    """of a search: `ap` or `top1`"""
    start: Start = "pretrained"
    seed: int = 0

    @property
    def key(self) -> str:
        """A key for the whole run."""
        if self.kind == "fitness":
            return f"{self.part}/fitness/{self.supernet}/{self.protocol}"
        return self.keys[0]

    def is_done(self, found: Found) -> bool:
        return all(key in found[self.kind] for key in self.keys)


def planned(study: Study, found: Found, parts: Collection[str] = ()) -> list[Run]:
    """All runs known so far, each once; of some parts, or of all. Raises ConfigError."""
    runs: dict[tuple[str, ...], Run] = {}
    for entry in study.order:
        part, _, step = entry.partition(".")
        if parts and part not in parts:
            continue
        if part not in study.parts or step not in STEPS:
            raise ConfigError(
                f"order: {entry!r} is no step; expected PART.STEP, a part of {', '.join(study.parts)} and a "
                f"step of {', '.join(STEPS)}"
            )
        for run in STEPS[step](_Planner(part, study.parts[part], found)):
            runs.setdefault(run.keys, run)
    return list(runs.values())


@dataclass(frozen=True)
class Choice:
    """Which runs are wanted: for a question, of some parts; all by default."""

    question: str = ""
    parts: tuple[str, ...] = ()

    def of(self, study: Study, found: Found) -> list[Run]:
        """The runs in the plan's order. Raises ConfigError for an unknown part."""
        for part in self.parts:
            if part not in study.parts:
                raise ConfigError(f"--part {part}: the study has {', '.join(study.parts)}")
        return [run for run in planned(study, found, self.parts) if self.question in run.questions]


def expect_same_configs(study: Study, found: Found, parts: Collection[str]) -> None:
    """Refuse raw lines of an older config, which would be compared with nets of the current one.

    Raises:
        ConfigError: names the first one of these parts.
    """
    current = {name: study.parts[name].identity for name in parts}
    for line in (line for of_kind in found.values() for line in of_kind.values()):
        expected = current.get(line["part"])
        if expected not in (None, line["config"]):
            raise ConfigError(
                f"{study.lines / line.file}: line {line.number} is of another config "
                f"({line['config']}, now {expected} of {study.parts[line['part']].config}); "
                "restore the config, or remove the lines and the run_dir of this part"
            )


def spelled(ops: Iterable[int]) -> str:
    """(2, 1, 0) to "210": an architecture in a key."""
    return "".join(map(str, ops))


def drawn(part: Part) -> tuple[Ops, ...]:
    """Nets drawn uniformly within the limit, by the config's seed; larger samples begin with smaller ones."""
    return _drawn(part.config, part.nets)


@cache
def _drawn(file: Path, nets: int) -> tuple[Ops, ...]:
    space, feasible = _space(file)
    rng = generator(space.seed, "sample")
    ops: dict[Ops, None] = {}
    while len(ops) < nets:
        new = feasible.random_unseen(rng, ops.keys())
        if new is None:
            raise ConstraintError(f"{file}: fewer than {nets} nets meet {feasible.constraint}")
        ops[new] = None
    return tuple(ops)


@cache
def plain_and_largest(file: Path) -> tuple[Ops, Ops]:
    """The plain net, op 0 in every block, and the one with the most MACs within a config's limit."""
    _, feasible = _space(file)
    sizes = [len(block) for block in feasible.table.blocks]
    every = np.indices(sizes).reshape(len(sizes), -1).T
    every = every[feasible.mask(every)]
    largest = every[np.argmax(feasible.table.costs(every)[:, 0])]
    return (0,) * len(sizes), tuple(largest.tolist())


def table(part: Part) -> CostTable:
    """The costs of a part's nets."""
    return _space(part.config)[1].table


@dataclass(frozen=True)
class _Space:
    """A config file's space, which can be read without the data that a whole config needs."""

    name: str
    seed: int
    search: Search


@cache
def _space(file: Path) -> tuple[_Space, FeasibleSet]:
    said = read_extended(file)
    search = parse_section(Search, said.get("search", {}), source=str(file), folder=file.parent)
    seed = said.get("seed", 0) if search.seed is None else search.seed
    space = _Space(said["space"]["name"], seed, search)
    limits = search.constraint
    within = Limits(limits.max_macs, limits.max_params)
    return space, FeasibleSet(cost_table(space.name, limits.resolution), within)


def best_of(search: Line) -> Ops:
    """The winner of a search; the earlier of two equal ones."""
    ops, _ = max(search["candidates"], key=lambda candidate: candidate[1])
    return tuple(ops)


@dataclass(frozen=True)
class _Planner:
    """One part's runs."""

    part: str
    settings: Part
    found: Found

    def pretrain(self, seed: int, questions: str) -> Run:
        keys = (f"{self.part}/pretrain/s{seed}",)
        return Run("supernets", self.part, keys, questions, self.settings.minutes.pretrain, seed=seed)

    def finetune(self, seed: int, questions: str, variant: str = "") -> Run:
        name = f"s{seed}-{variant}" if variant else f"s{seed}"
        return Run(
            "supernets",
            self.part,
            (f"{self.part}/finetune/{name}",),
            questions,
            self.settings.minutes.finetune,
            needs=(f"{self.part}/pretrain/s{seed}",),
            supernet=name,
            seed=seed,
        )

    def net(self, ops: Ops, seed: int, questions: str, start: Start = "pretrained") -> Run:
        first = self.settings.supernets[0]
        return Run(
            "nets",
            self.part,
            (f"{self.part}/net/{spelled(ops)}/{start}/{seed}",),
            questions,
            self.settings.minutes.net * (2 if start == "own" else 1),
            needs=(f"{self.part}/pretrain/s{first}",) if start == "pretrained" else (),
            ops=(ops,),
            start=start,
            seed=seed,
        )

    def fitness(self, supernet: str, protocol: str, nets: Sequence[Ops], questions: str) -> Run:
        """One run for all nets. A protocol by top-1 needs no detector, all others do."""
        seed = supernet.partition("-")[0]
        is_top1 = "evaluation.task=classification" in self._protocol(protocol)
        need = f"{self.part}/pretrain/{seed}" if is_top1 else f"{self.part}/finetune/{supernet}"
        return Run(
            "fitness",
            self.part,
            tuple(f"{self.part}/fitness/{supernet}/{protocol}/{spelled(ops)}" for ops in nets),
            questions,
            self.settings.minutes.evaluation * len(nets),
            needs=(need,),
            ops=tuple(nets),
            supernet=supernet,
            protocol=protocol,
            seed=int(seed[1:]),
        )

    def search(self, supernet: int, strategy: str, seed: int, questions: str, guide: str = "ap") -> Run:
        stage = "finetune" if guide == "ap" else "pretrain"
        return Run(
            "searches",
            self.part,
            (f"{self.part}/search/s{supernet}/{guide}/{strategy}/{seed}",),
            questions,
            _space(self.settings.config)[0].search.evaluations * self.settings.minutes.evaluation,
            needs=(f"{self.part}/{stage}/s{supernet}",),
            supernet=f"s{supernet}",
            strategy=strategy,
            guide=guide,
            seed=seed,
        )

    def winner(self, search: Run, seeds: Iterable[int], questions: str) -> Iterator[Run]:
        """The nets of a search's winner; none while the search has not ended."""
        line = self.found["searches"].get(search.key)
        if line is not None:
            for seed in seeds:
                yield self.net(best_of(line), seed, questions)

    def searched(self, seeds: Sequence[int], strategies: Sequence[str] | None = None) -> Iterator[Run]:
        """Seed by seed, so that the finished runs are balanced at any time."""
        searches = self.settings.searches
        if searches is None:
            return
        for seed in seeds:
            for supernet in self.settings.supernets:
                for strategy in strategies or searches.strategies:
                    yield self.search(supernet, strategy, seed, "b")

    def _protocol(self, name: str) -> tuple[str, ...]:
        return () if name == SEARCH else self.settings.protocols[name].set


def _supernet(plan: _Planner) -> Iterator[Run]:
    seed = plan.settings.supernets[0]
    yield plan.pretrain(seed, "abcde")
    yield plan.finetune(seed, "abcde")


def _ranking(plan: _Planner) -> Iterator[Run]:
    nets = drawn(plan.settings)
    yield plan.fitness(f"s{plan.settings.supernets[0]}", SEARCH, nets, "ade")
    for ops in nets:
        yield plan.net(ops, 0, "ade")


def _repeats(plan: _Planner) -> Iterator[Run]:
    repeats = plan.settings.repeats
    if repeats is not None:
        for ops in drawn(plan.settings)[: repeats.nets]:
            for seed in repeats.seeds:
                yield plan.net(ops, seed, "a")


def _repeats_of_all(plan: _Planner) -> Iterator[Run]:
    repeats = plan.settings.repeats
    if repeats is not None:
        for ops in drawn(plan.settings):
            yield plan.net(ops, repeats.seeds[0], "a")


def _first_search(plan: _Planner) -> Iterator[Run]:
    searches = plan.settings.searches
    if searches is not None:
        search = plan.search(plan.settings.supernets[0], searches.strategies[0], searches.seeds[0], "ab")
        yield search
        yield from plan.winner(search, [0], "ab")


def _other_supernets(plan: _Planner) -> Iterator[Run]:
    for seed in plan.settings.supernets[1:]:
        yield plan.pretrain(seed, "ab")
        yield plan.finetune(seed, "ab")
        yield plan.fitness(f"s{seed}", SEARCH, drawn(plan.settings), "a")


def _searches(plan: _Planner) -> Iterator[Run]:
    if plan.settings.searches is not None:
        yield from plan.searched(plan.settings.searches.seeds)


def _more_searches(plan: _Planner) -> Iterator[Run]:
    if plan.settings.searches is not None:
        yield from plan.searched(plan.settings.searches.more_seeds)


def _winners(plan: _Planner) -> Iterator[Run]:
    if plan.settings.searches is not None and plan.settings.winners is not None:
        for search in plan.searched(plan.settings.searches.seeds, plan.settings.winners.strategies):
            yield from plan.winner(search, [0], "b")


def _baselines(plan: _Planner) -> Iterator[Run]:
    repeats = plan.settings.repeats
    for seed in (0, *(repeats.seeds if repeats is not None else ())):
        for ops in plain_and_largest(plan.settings.config):
            yield plan.net(ops, seed, "d")


def _classification(plan: _Planner) -> Iterator[Run]:
    settings = plan.settings
    if settings.winners is None or settings.searches is None:
        return
    strategy = settings.searches.strategies[0]
    for seed in settings.classification_searches:
        for supernet in settings.supernets:
            by_top1 = plan.search(supernet, strategy, seed, "c", guide="top1")
            by_ap = plan.search(supernet, strategy, seed, "c")
            yield from (by_top1, by_ap)
            for search in (by_top1, by_ap):
                yield from plan.winner(search, settings.winners.seeds if seed == 0 else [0], "c")


def _protocols(plan: _Planner) -> Iterator[Run]:
    for supernet in plan.settings.supernets:
        for protocol in plan.settings.protocols:
            yield plan.fitness(f"s{supernet}", protocol, drawn(plan.settings), "e")


def _supernet_variants(plan: _Planner) -> Iterator[Run]:
    for seed in plan.settings.supernets:
        for variant in plan.settings.supernet_variants:
            yield plan.finetune(seed, "e", variant)
            yield plan.fitness(f"s{seed}-{variant}", SEARCH, drawn(plan.settings), "e")


def _noise(plan: _Planner) -> Iterator[Run]:
    """Of nets from random weights: how much AP moves with the test images owes nothing to a net's start."""
    noise = plan.settings.noise
    if noise is not None:
        for ops in drawn(plan.settings)[: noise.nets]:
            net = plan.net(ops, 0, "a", start="scratch")
            yield net
            keys = (f"{plan.part}/noise/{spelled(ops)}",)
            minutes = plan.settings.minutes.noise
            yield Run("noise", plan.part, keys, "a", minutes, needs=net.keys, ops=net.ops, start=net.start)


def _own_starts(plan: _Planner) -> Iterator[Run]:
    for ops in drawn(plan.settings)[: plan.settings.own_starts]:
        yield plan.net(ops, 0, "a", start="own")


def _starts(plan: _Planner) -> Iterator[Run]:
    starts = plan.settings.starts
    if starts is not None:
        for seed in starts.seeds:
            for start in starts.names:
                yield plan.net(drawn(plan.settings)[0], seed, "f", start=start)


STEPS: Mapping[str, Callable[[_Planner], Iterator[Run]]] = {
    "supernet": _supernet,
    "ranking": _ranking,
    "repeats": _repeats,
    "first_search": _first_search,
    "other_supernets": _other_supernets,
    "searches": _searches,
    "winners": _winners,
    "baselines": _baselines,
    "classification": _classification,
    "protocols": _protocols,
    "supernet_variants": _supernet_variants,
    "noise": _noise,
    "own_starts": _own_starts,
    "starts": _starts,
    "more_searches": _more_searches,
    "repeats_of_all": _repeats_of_all,
}
