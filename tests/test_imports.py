"""What a process imports: nothing that it does not use, and what is large at once."""

import subprocess
import sys

import pytest

_LOADED = "print(*sys.modules); print(gc.isenabled(), gc.get_freeze_count())"


def after(code: str) -> tuple[set[str], bool, int]:
    """After some code in a process of its own: its modules, whether it collects garbage, and how much not."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import gc, sys\n{code}\n{_LOADED}"],
        capture_output=True,
        text=True,
        check=True,
    )
    *_, modules, collector = run.stdout.splitlines()
    enabled, frozen = collector.split()
    return set(modules.split()), enabled == "True", int(frozen)


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("command", ["", "search", "data shapes"])
def test_help_imports_neither_torch_nor_anything_else_that_is_large(command):
    modules, *_ = after(
        f"from detnas_nni.cli import main\ntry: main({[*command.split(), '--help']})\nexcept SystemExit: pass"
    )
    assert "detnas_nni.cli.arguments" in modules
    assert not packages(modules) & {
        "torch",
        "torchvision",
        "nni",
        "numpy",
        "pandas",
        "scipy",
        "pydantic",
        "PIL",
    }


def test_a_trial_imports_nothing_of_a_training_and_no_front_end():
    modules, *_ = after("import detnas_nni.search.nnictl.trial")
    assert "detnas_nni.evaluation.candidate" in modules
    assert not packages(modules) & {
        *("pytorch_lightning", "lightning_fabric", "torchmetrics", "tensorboard", "sklearn", "matplotlib"),
        "pycocotools",
    }
    unused = ("nni.nas.oneshot", "nni.nas.strategy", "nni.nas.profiler", "torch.distributed.run")
    assert not {name for name in modules if name.startswith(unused)}


def test_imported_at_once_the_packages_are_there_and_only_what_comes_later_is_collected():
    modules, enabled, frozen = after("from detnas_nni.util.imports import import_at_once; import_at_once()")
    assert {"torch", "torchvision", "nni"} <= modules
    assert enabled and frozen > 100_000


def test_a_process_that_has_torch_keeps_its_collector_as_it_is():
    modules, enabled, frozen = after(
        "import torch; gc.disable()\nfrom detnas_nni.util.imports import import_at_once; import_at_once()"
    )
    assert "nni" not in modules and not enabled and frozen == 0
