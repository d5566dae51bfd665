"""What a run leaves behind, and where: the one module with the file names of a run's folder.

    RUN_DIR/
        pretrain/                    supernet.pt; training.json, checkpoints/, tensorboard/
        finetune/                    the same
        search/                      journal.jsonl, search.json, owner.json, decoded/, best_architecture.json,
                                     best_architecture_rank_2.json, best_within_….json, front.json,
                                     front/ with trained members;
                                     for NNI's trials proposals/, trials/, outcomes/, heartbeats/
        samples/                     random_00.json, random_01.json, …
        retrain/NAME/                results.json
        retrain/NAME/classifier/     net.pt; training.json, checkpoints/, tensorboard/
        retrain/NAME/detector/       the same
        audit/                       audit.json, nets.jsonl, plan.json, identity.json
        audit/NET-seedN/             detnas.yaml, architecture.json, retrain.log, and what `retrain` makes
        export/ report/ predictions/ what these commands write
        latency.json                 what `detnas latency` has measured
        fast-dev-run/                all of this again, by `--fast-dev-run`

`pretrain_dir`, `finetune_dir`, `retrain.classifier_dir` and `search.name` of the config change the folders.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from detnas_nni.config.schema import Config

FAST_DEV_RUN = "fast-dev-run"
"""The folder of runs with `--fast-dev-run`, inside the run's own."""

# Of a training.
SUPERNET = "supernet.pt"
NET = "net.pt"
TRAINING = "training.json"
CHECKPOINTS = "checkpoints"
UNNAMED_CHECKPOINT = "unnamed.ckpt"
TENSORBOARD = "tensorboard"

# Of a search.
JOURNAL = "journal.jsonl"
SEARCH = "search.json"
OWNER = "owner.json"
BEST = "best_architecture.json"
FRONT = "front.json"
DECODED = "decoded"
"""The folder of the images that candidates are calibrated and measured on."""
PROPOSALS, TRIALS, OUTCOMES, HEARTBEATS = "proposals", "trials", "outcomes", "heartbeats"

# Of an audit, and of each net that it trains.
AUDIT = "audit.json"
AUDITED_NETS = "nets.jsonl"
AUDIT_PLAN = "plan.json"
AUDIT_IDENTITY = "identity.json"
NET_CONFIG, NET_ARCHITECTURE, NET_LOG = "detnas.yaml", "architecture.json", "retrain.log"

# Of the final net, and of what is made of it.
RESULTS = "results.json"
REPORT = "report.html"
DETECTIONS = "detections.json"
LATENCY = "latency.json"


def pretrain_folder(config: Config) -> Path:
    return config.pretrain_dir or config.run_dir / "pretrain"


def finetune_folder(config: Config) -> Path:
    return config.finetune_dir or config.run_dir / "finetune"


def retrain_folder(run_dir: Path) -> Path:
    """The parent of one folder per final net."""
    return run_dir / "retrain"


def classifier_folder(config: Config, net: str) -> Path:
    """The folder of the classifier that a final net starts from; experiments may share it."""
    return (config.retrain.classifier_dir or retrain_folder(config.run_dir)) / net / "classifier"


def detector_folder(net: Path) -> Path:
    """The folder of the detector, in that of its final net."""
    return net / "detector"


def results_of(run_dir: Path) -> list[Path]:
    """The results of all final nets of a run."""
    return sorted(retrain_folder(run_dir).glob(f"*/{RESULTS}"))


def results_beside(architecture: Path) -> Path:
    """The copy of a net's results next to its architecture's file."""
    return architecture.with_suffix(f".{RESULTS}")


def member_file(search_dir: Path, ops: Sequence[int]) -> Path:
    """The file of an architecture of a search's front that is trained on its own."""
    return search_dir / "front" / f"{'-'.join(map(str, ops))}.json"


def best_file(search_dir: Path, rank: int = 1) -> Path:
    """The file of a search's best architecture, or of that of another rank."""
    return search_dir / (BEST if rank == 1 else f"best_architecture_rank_{rank}.json")


def within_file(
    search_dir: Path, limits: Mapping[str, float], rank: int = 1, latency_table: str | None = None
) -> Path:
    """The file of the best architecture within a budget, or of that of another rank.

    Args:
        search_dir: the search's folder.
        limits: the budget.
        rank: 1 for the best.
        latency_table: the fingerprint of the table that a limit in ms refers to; None for the search's own.
    """
    parts = [f"{key}_{limit:.10g}" for key, limit in limits.items()]
    if latency_table is not None:
        parts.append(f"table_{latency_table[:8]}")
    if rank > 1:
        parts.append(f"rank_{rank}")
    return search_dir / f"best_within_{'_'.join(parts)}.json"


def sample_file(run_dir: Path, number: int) -> Path:
    """The file of a random architecture."""
    return run_dir / "samples" / f"random_{number:02d}.json"


def audit_folder(config: Config) -> Path:
    """Where a config's search is audited: `RUN_DIR/audit`, or `audit_NAME` if the search has another name."""
    name = config.search.name
    return config.run_dir / ("audit" if name == "search" else f"audit_{name}")


def audit_file(config: Config) -> Path:
    """The result of a config's audit."""
    return audit_folder(config) / AUDIT


def report_folder(run_dir: Path) -> Path:
    return run_dir / "report"


def export_folder(run_dir: Path) -> Path:
    return run_dir / "export"


def predictions_folder(run_dir: Path) -> Path:
    return run_dir / "predictions"
