"""Which start a new experiment gets if the user names none: ImageNet weights if their steps fit.

Each step from ImageNet weights costs several times as much as one from crops, so both are measured here. In
equal time on a CPU they were far ahead on photographs of animals and about equal on cells under a microscope
(docs/own-data.md), so they are the safer proposal.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from detnas_nni.errors import ConfigError
from detnas_nni.init.derived import Derived, Machine
from detnas_nni.init.look import Look
from detnas_nni.init.plan import TooShortError, estimate, fit, hours
from detnas_nni.init.pretraining import IMAGENET_SPACE, choose
from detnas_nni.init.timing import Speeds


@dataclass(frozen=True)
class Start:
    """An available start, and how long its steps take here.

    Attributes:
        derived: what follows from data and machine.
        speeds: as measured.
    """

    derived: Derived
    speeds: Speeds

    @property
    def seconds(self) -> float:
        """The time of the whole plan, uncut."""
        return sum(estimate(self.derived, self.derived.schedule(), self.speeds).values())

    def is_worth_it(self, limit: float | None) -> bool:
        """Whether the plan, cut to a limit in seconds, keeps the steps that a start from weights needs."""
        if limit is None:
            return True
        wanted = self.derived.schedule()
        try:
            cut, _ = fit(self.derived, wanted, self.speeds, limit)
        except TooShortError:
            return False
        return cut.retrain >= min(wanted.retrain, self.derived.enough_steps)

    def told(self, why: str) -> Start:
        """The same start, with why it was chosen."""
        return replace(self, derived=replace(self.derived, pretraining=self.derived.pretraining.told(why)))


def propose(
    found: Look, machine: Machine, limit: float | None, measured: Callable[[Derived], Speeds]
) -> Start:
    """The start from ImageNet weights if its plan fits, the one from crops (or from nothing) otherwise.

    Args:
        found: the data.
        machine: what it runs on.
        limit: seconds for all steps together; None for no limit.
        measured: measures the steps of an experiment here.
    """
    without = Derived(found, machine, choose(found))
    other = Start(without, measured(without))
    try:
        derived = Derived(found, machine, choose(found, kind="imagenet"))
    except ConfigError as error:
        return other.told(f"not from ImageNet weights, as {_first_words(error)}")
    trained = Start(derived, measured(derived))
    kind = without.pretraining.kind
    theirs = f"{IMAGENET_SPACE} from ImageNet weights: about {hours(trained.seconds)} here"
    ours = f"{without.space} {'from crops' if kind == 'crops' else 'from random weights'}: about " + hours(
        other.seconds
    )
    given = "" if limit is None else f", of the {hours(limit)} that you gave"
    if trained.is_worth_it(limit):
        unlike = ", perhaps the better one for images unlike everyday photographs" if kind == "crops" else ""
        return trained.told(
            f"proposed, as its steps fit ({theirs}; {ours}{given}); --pretrain {kind} is the alternative"
            + unlike
        )
    return other.told(
        f"not from ImageNet weights, as {derived.enough_steps} steps of the final net do not fit beside the "
        f"rest ({theirs}; {ours}{given}); --pretrain imagenet cuts them further"
    )


def _first_words(error: ConfigError) -> str:
    return str(error).partition("   #")[0]
