"""What an nnictl trial costs before its net first computes, compared with the imports that it needs.

    python -m benchmarks.trial_start --repeats 9

takes four minutes and prints one JSON object. Four commands are started in turn, in separate processes:

- `imports`: python -c "import torch, torchvision, nni";
- `imports_alone`: the same without Python's exit, in which torch takes some tenths of a second to shut down:
  the stricter measure, since the trial is measured before its end;
- `trial`: `detnas trial`, up to the first convolution of its net, on a supernet of the config that was
  trained for one step; NNI's side is `tests/search/nnictl/trial_service.py`. `milestones` are seconds from
  its start until the config is read; all modules are imported; NNI has said what to evaluate; the supernet's
  hash is known; the supernet and the data are open; the path's net has its weights; the first batch has
  reached it;
- `help`: detnas --help.

Seconds are wall-clock time, CPU seconds are user plus system, medians over the repeats. Ratios are of the
trial to the imports, the median over the rounds; those of wall-clock time are meaningful only on an idle
machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_IMPORTS = "import torch, torchvision, nni"
_IMPORTS_ALONE = f"import os; {_IMPORTS}; os._exit(0)"
_MEASURES = ("seconds", "cpu_seconds")
_TRIAL = "first"
_STARTED = "DETNAS_BENCHMARK_STARTED"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--config", type=Path, default=Path("experiments/quickstart/detnas.yaml"))
    parser.add_argument("--set", action="append", default=[], dest="overrides", metavar="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=9, metavar="N")
    parser.add_argument("--as-trial", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_trial is not None:
        be_a_trial(options.as_trial)
    with tempfile.TemporaryDirectory() as folder:
        settings = prepare(options.config, options.overrides, Path(folder))
        print(json.dumps(compare(settings, Path(folder), options.repeats), indent=2))


def prepare(config: Path, overrides: Sequence[str], folder: Path) -> list[str]:
    """Draw the quickstart's images, train the config's supernets on them; return `detnas trial`'s options."""
    data = folder / "data"
    detection = {
        split: {"images": f"{data}/detection/{split}", "annotations": f"{data}/detection/{split}.json"}
        for split in ("train", "search")
    }
    values = [
        f"run_dir={folder / 'run'}",
        f"data.classification.train={data}/classification/train",
        "data.classification.test=null",
        *(f"data.detection.{split}={json.dumps(sources)}" for split, sources in detection.items()),
        "data.detection.test=null",
        "pretrain.steps=1",
        "pretrain.warmup_steps=0",
        "finetune.steps=1",
        "finetune.milestones=[]",
        "finetune.warmup_steps=0",
        "hardware.workers=0",
        *overrides,
    ]
    settings = ["-c", str(config), *(part for value in values for part in ("--set", value))]
    for command in (["data", "shapes", "--out", str(data)], ["pretrain", *settings], ["finetune", *settings]):
        subprocess.run([*_detnas(), *command], check=True, stdout=sys.stderr)
    return settings


def compare(settings: Sequence[str], folder: Path, repeats: int) -> dict[str, Any]:
    """The commands in turn, after a round that loads the files into the page cache."""
    from tests.search.nnictl.trial_service import TrialService

    with TrialService({_TRIAL: {"parameter_id": 0, "parameters": _parameters(settings)}}) as service:
        service.handed = service.records
        environment = {**os.environ, **service.environment(_TRIAL, folder / "log")}
        commands = {
            "imports": [sys.executable, "-c", _IMPORTS],
            "imports_alone": [sys.executable, "-c", _IMPORTS_ALONE],
            "trial": [sys.executable, "-m", "benchmarks.trial_start", "--as-trial", *settings],
            "help": [*_detnas(), "--help"],
        }
        rounds = [
            {name: _run(command, environment) for name, command in commands.items()}
            for _ in range(repeats + 1)
        ][1:]
    medians = {
        name: {key: _median(one[name][key] for one in rounds) for key in _MEASURES} for name in commands
    }
    medians["trial"]["milestones"] = {
        name: _median(one["trial"]["milestones"][name] for one in rounds)
        for name in rounds[0]["trial"]["milestones"]
    }
    # Per round, whose runs are the most likely to find the machine in the same state.
    ratios = {
        f"ratio_to_{name}": {
            key: _median(one["trial"][key] / one[name][key] for one in rounds) for key in _MEASURES
        }
        for name in ("imports", "imports_alone")
    }
    return {"repeats": repeats, **medians, **ratios}


def be_a_trial(arguments: Sequence[str]) -> None:
    """`detnas trial` up to its first convolution, which ends the process; prints the milestones."""
    from detnas_nni import cli
    from detnas_nni.cli import searches
    from detnas_nni.config import reading

    reached: dict[str, float] = {}

    def import_and_watch() -> None:
        cli_import()
        import nni
        from torch.nn.modules.module import register_module_forward_pre_hook

        from detnas_nni.evaluation.candidate import CandidateEvaluation
        from detnas_nni.search.nnictl import trial  # which the command imports next

        reached["modules"] = _since_start()
        _watch(nni, "get_next_parameter", "parameters", reached)
        _watch(trial, "file_hash", "supernet's hash", reached)
        _watch(CandidateEvaluation, "__init__", "supernet and data", reached)
        _watch(CandidateEvaluation, "net", "the path's net", reached)
        register_module_forward_pre_hook(end_at_convolution)

    def end_at_convolution(module: Any, _: Any) -> None:
        if type(module).__name__ == "Conv2d":
            reached["first forward"] = _since_start()
            os.write(1, json.dumps(reached).encode())  # NNI has replaced print with its own log
            os._exit(0)

    _watch(reading, "load_config", "config", reached)
    cli_import, searches.import_at_once = searches.import_at_once, import_and_watch
    cli.main(["trial", *arguments])
    raise SystemExit("the trial ended without a convolution")


def _watch(owner: Any, name: str, milestone: str, reached: dict[str, float]) -> None:
    """Make a function record when it has returned."""
    function = getattr(owner, name)

    def noting(*arguments: Any, **options: Any) -> Any:
        result = function(*arguments, **options)
        reached[milestone] = _since_start()
        return result

    setattr(owner, name, noting)


def _since_start() -> float:
    return round(time.time() - float(os.environ[_STARTED]), 3)


def _parameters(settings: Sequence[str]) -> dict[str, Any]:
    """The choices of a path of the config's space, as NNI passes them."""
    from detnas_nni.architecture import Architecture
    from detnas_nni.config.reading import load_config
    from search_spaces import layout

    overrides = [value for flag, value in _pairs(settings) if flag == "--set"]
    space = load_config(Path(settings[1]), overrides).space.name
    ops = tuple(number % len(choice.candidates) for number, choice in enumerate(layout(space)))
    return Architecture(space, ops).choices


def _pairs(settings: Sequence[str]) -> Iterator[tuple[str, str]]:
    return zip(settings[::2], settings[1::2], strict=True)


def _run(command: Sequence[str], environment: dict[str, str]) -> dict[str, Any]:
    """Wall-clock and CPU seconds of a process, and the milestones that it prints."""
    started = time.time()
    process = subprocess.Popen(
        command,
        env={**environment, _STARTED: repr(started)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    output, errors = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.time() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed:\n{errors}")
    result = {"seconds": seconds, "cpu_seconds": usage.ru_utime + usage.ru_stime}
    return {**result, "milestones": json.loads(output)} if "--as-trial" in command else result


def _detnas() -> list[str]:
    return [str(Path(sys.executable).with_name("detnas"))]


def _median(values: Iterable[float]) -> float:
    return round(statistics.median(values), 3)


if __name__ == "__main__":
    main()
