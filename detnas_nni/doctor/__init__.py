"""`detnas doctor`: what is wrong with this environment, and the command that fixes it.

It is called when things are broken, so it imports little more than the standard library until a check needs
more, and what may crash runs in a separate process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from detnas_nni.doctor import environment, experiment, machine, nni_servers
from detnas_nni.doctor.finding import Finding, NoAnswerError, as_json, as_text, worst

__all__ = ["Finding", "doctor", "examine"]

Check = Callable[[], list[Finding]]

_AT_ONCE = 2  # checks; each long one waits for a process


def doctor(config: str | Path | None = None, overrides: Sequence[str] = (), *, json: bool = False) -> int:
    """Print the findings and return the exit status, 1 if there is a problem.

    Args:
        config: also look at this experiment's config, data and run.
        overrides: changes to it, as `section.key=value`.
        json: print one JSON object instead of lines.
    """
    findings = examine(config, overrides)
    print(as_json(findings) if json else as_text(findings, sys.stdout.encoding or "ascii"))
    return 1 if worst(findings) == "problem" else 0


def examine(config: str | Path | None = None, overrides: Sequence[str] = ()) -> list[Finding]:
    """All findings, in a fixed order. No check raises: a failing one is a finding as well."""
    loaded, about_config = None, []
    if config is not None:
        loaded, about_config = experiment.read_config(config, overrides)
    checks: list[Check] = [
        environment.python_version,
        environment.packages,
        partial(environment.torch_works, loaded and loaded.hardware),
        environment.nnictl,
        environment.search_path,
        nni_servers.manager_address,
        nni_servers.experiments,
        nni_servers.swap_cure,
        machine.ports,
        partial(machine.shared_memory, loaded),
        partial(machine.open_files, loaded),
        lambda: about_config,
    ]
    if config is not None and loaded is not None:
        checks += [
            partial(experiment.data, loaded),
            partial(experiment.annotations, loaded),
            partial(nni_servers.remote_trials, Path(config).parent),
            partial(nni_servers.gpu_trials, Path(config).parent),
            partial(machine.writable_folders, loaded),
            partial(experiment.steps, config, overrides),
        ]
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        return [finding for found in pool.map(_run, checks) for finding in found]


def _run(check: Check) -> list[Finding]:
    name = getattr(check, "func", check).__name__
    try:
        return check()
    except NoAnswerError as error:
        return [Finding(name, "warning", str(error), "uptime   # is the machine busy? then try again")]
    except Exception as error:
        text = f"the check failed: {type(error).__name__}: {error}"
        remedy = "pip install -r requirements.txt   # a package may be missing; otherwise report this"
        return [Finding(name, "problem", text, remedy)]
