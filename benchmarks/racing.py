"""What racing would have saved in a search that measured every candidate fully, and which it would have lost.

    python benchmarks/racing.py runs/quickstart/search/journal.jsonl --population 8 --parents 3

prints one JSON object in a second. The journals' candidates are replayed in their order, under the very
rule of a search (`detnas_nni.search.evaluator`), for each `--risk`, which is the config's `search.racing`:

- `given_up`: share of all candidates;
- `images_saved`: share of the search split's images, over all candidates, that would not have been evaluated;
- `parents_lost`: candidates given up although their fitness on the whole split, known from the journal, would
  have put them among the best so far; `parents` is how many were among them. Only if one is lost would the
  search have taken another course.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detnas_nni.config import Search
from detnas_nni.search.evaluator import Race
from detnas_nni.search.journal import Evaluation, Journal


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("journals", type=Path, nargs="+", metavar="JOURNAL")
    parser.add_argument("--population", type=int, default=50, metavar="N")
    parser.add_argument("--parents", type=int, default=10, metavar="N")
    parser.add_argument("--risk", type=float, nargs="+", default=[0.001, 0.01, 0.05, 0.1, 0.2], metavar="P")
    options = parser.parse_args()
    searches = [Journal(path).evaluations for path in options.journals]
    result = {}
    for risk in options.risk:
        search = Search(
            population=options.population,
            parents=options.parents,
            racing=risk,
            mutations=0,
            crossovers=0,
            tournament=1,
        )
        raced = [race(evaluations, search) for evaluations in searches]
        candidates = sum(map(len, searches))
        given_up = sum(len(stopped) for stopped, _, _ in raced)
        result[str(risk)] = {
            "given_up": round(given_up / candidates, 3),
            "images_saved": round(sum(sum(stopped) for stopped, _, _ in raced) / candidates, 3),
            "parents": sum(parents for _, parents, _ in raced),
            "parents_lost": sum(lost for _, _, lost in raced),
        }
    print(
        json.dumps(
            {"searches": len(searches), "candidates": sum(map(len, searches)), "risk": result}, indent=2
        )
    )


def race(evaluations: Sequence[Evaluation], search: Search) -> tuple[list[float], int, int]:
    """The share of the split saved for each one given up; the parents; the parents lost."""
    known: list[Evaluation] = []
    spared: list[float] = []
    parents = lost = 0
    for evaluation in evaluations:
        bar = Race(search, known).bar()
        parts = len(evaluation.parts)
        last = next(
            (n for n in range(1, parts) if bar is not None and bar.is_missed(evaluation.parts[:n])), None
        )
        is_parent = evaluation.fitness is not None and _is_among_the_best(evaluation, known, search.parents)
        parents += is_parent
        if last is not None:
            spared.append(1 - last / parts)
            lost += is_parent
            evaluation = replace(evaluation, metrics=None, parts=evaluation.parts[:last], stopped=True)
        known.append(evaluation)
    return spared, parents, lost


def _is_among_the_best(evaluation: Evaluation, known: Sequence[Evaluation], parents: int) -> bool:
    """Whether it would breed after its generation, judging by the generations before it."""
    before = [e.fitness for e in known if e.generation < evaluation.generation and e.fitness is not None]
    return sum(fitness >= evaluation.fitness for fitness in before) < parents


if __name__ == "__main__":
    main()
