"""The config's values, each with what it was derived from, and as YAML with these reasons as comments.

Numbers marked [R] are the authors' (megvii-model/DetNAS), those marked [P] the paper's. The tiny space's are
those of `experiments/quickstart`, which was tuned for it; the others' are the authors', scaled.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detnas_nni.config.reading import to_yaml
from detnas_nni.init.derived import Derived, Schedule
from detnas_nni.init.narrowing import published_macs
from detnas_nni.init.sizes import anchor_ratios, anchor_sizes


@dataclass(frozen=True)
class Value:
    """A value of the config, and why it is so; "" if it was not derived."""

    value: object
    why: str = ""


Tree = dict[str, "Value | Tree"]
"""A section of the config: its keys with their values or sections."""


def settings(derived: Derived, schedule: Schedule, data: Tree, run_dir: str, weights: str | None) -> Tree:
    """The whole config.

    Args:
        derived: what follows from data and machine.
        schedule: how long to train and search.
        data: the section `data`, with paths as they are to be written.
        run_dir: the path of the run's folder, likewise.
        weights: the given supernet's path, likewise; None if there is none.
    """
    tree: Tree = {
        "run_dir": Value(run_dir),
        "seed": Value(derived.seed),
        "space": _space(derived),
        "data": data,
        "detector": _detector(derived),
    }
    if derived.pretraining.trains:
        tree["pretrain"] = _pretrain(derived, schedule)
    tree["finetune"] = _finetune(derived, schedule, weights)
    tree["evaluation"] = _evaluation(derived, schedule)
    tree["search"] = _search(derived, schedule)
    tree["retrain"] = _retrain(derived, schedule)
    tree["hardware"] = _hardware(derived)
    return tree


def _space(derived: Derived) -> Tree:
    images = f"{len(derived.found.train):,} training images"
    why = f"for {derived.machine}, {images}; tiny, small, large, 3.8g"
    if derived.pretraining.kind == "supernet":
        why = "the given supernet's"
    elif derived.pretraining.kind == "imagenet":
        why = "there are ImageNet weights for it"
    tree: Tree = {"name": Value(derived.space, why)}
    if derived.pretraining.options:
        tree["options"] = Value(dict(derived.pretraining.options), "the given supernet's")
    return tree


def _detector(derived: Derived) -> Tree:
    found, size, sides = derived.found, derived.input, derived.resized_sides
    low, high = np.quantile(sides, (0.05, 0.95))
    affordable = "a GPU" if derived.machine.gpus else "a CPU"
    short = np.median(found.image_sizes.min(axis=1))
    tree: Tree = {
        "name": Value("faster_rcnn"),
        "min_size": Value(
            size.min_size,
            f"median shorter side {short:.0f}; 95 % of boxes then have {size.small_box:.0f} pixels or more; "
            f"within what {affordable} affords",
        ),
        "max_size": Value(size.max_size, "min_size x the images' longer over shorter side, for 95 %"),
        "anchor_sizes": Value(
            anchor_sizes(sides), f"evenly from {low:.0f} to {high:.0f}: 90 % of the resized boxes (√area)"
        ),
        "anchor_ratios": Value(anchor_ratios(found.box_sizes), "[R], unless the boxes are very long"),
    }
    if derived.is_small_net:
        most = int(np.quantile(found.boxes_per_image, 0.99))
        proposals = int(np.clip(round(4 * most / 20) * 20, 60, 400))
        tree |= {
            "fpn_channels": Value(48, "for the tiny space, as in experiments/quickstart"),
            "box_head_convs": Value(1),
            "box_head_channels": Value(48),
            "box_head_width": Value(96),
            "rpn_proposals_train": Value(2 * proposals, "twice as many as in evaluation"),
            "rpn_proposals_test": Value(
                proposals, f"4 x the boxes of a full image: at most {most} in 99 % of them"
            ),
            "box_samples": Value(
                int(np.clip(2 * most, 32, 128)), "2 x those boxes; a quarter may be objects"
            ),
        }
    most = int(found.boxes_per_image.max())
    if most > 100:
        tree["detections_per_image"] = Value(most, "boxes of the fullest image; COCO's AP counts only 100")
    return tree


def _pretrain(derived: Derived, schedule: Schedule) -> Tree:
    images, batch, steps = derived.pretraining.images, derived.pretrain_batch, schedule.pretrain
    base, of = (0.1, 32) if derived.is_small_net else (0.5, 1024)
    tree: Tree = {
        "steps": Value(steps, f"{steps * batch / images:.1f} epochs of about {images:,} images"),
        "batch_size": Value(batch, _per_device(derived, batch)),
        "lr": Value(
            _rounded(base * batch / of), f"{base} for a batch of {of}, in proportion; it falls linearly to 0"
        ),
        "warmup_steps": Value(max(1, min(500, steps // 30))),
    }
    if derived.is_small_net:
        tree["dropout"] = Value(0.0, "for a small net and a short training, as in experiments/quickstart")
        tree["color_jitter"] = Value(0.2)
    if derived.pretraining.kind == "crops":
        tree["crop_min_scale"] = Value(0.5, "crops are tight already; 0.08 is for whole photos [R]")
    return tree | _writing(steps)


_LONG_PRETRAINING = 30_000
"""Steps, a tenth of the paper's, from which the weights' scale is left as it is; where that begins to be
better has not been measured."""


def _finetune(derived: Derived, schedule: Schedule, weights: str | None) -> Tree:
    batch = derived.finetune_batch
    base, of = (0.05, 8) if derived.is_small_net else (0.02, 16)
    tree: Tree = {}
    if derived.pretraining.kind == "none":
        tree["init"] = Value("scratch", "no pre-training")
    elif derived.pretraining.kind == "imagenet":
        tree["init"] = Value("imagenet", "every candidate is derived from the trained block")
        if derived.frozen_stages and not derived.search:
            why = f"with the stem: {len(derived.found.train):,} images are few (docs/own-data.md)"
            tree["freeze"] = Value(derived.frozen_stages, why)
        if derived.searches_near:
            tree["around"] = Value(derived.near, "as search.around: hundreds of uniform paths are too few")
    elif weights is not None:
        tree["weights"] = Value(weights, "the given supernet; its trunk is the start")
    own = derived.pretraining.trains or derived.pretraining.kind == "none"
    if own and schedule.pretrain < _LONG_PRETRAINING:
        tree["rescale"] = Value(
            True, "in short trainings weights move little as they are drawn (docs/own-data.md)"
        )
    tree["batch_size"] = Value(batch, _per_device(derived, batch))
    tree["lr"] = Value(
        _rounded(base * batch / of),
        f"{base} for a batch of {of}, in proportion"
        + ("; 0.02 learns less in hundreds of steps (docs/own-data.md)" if derived.is_small_net else ""),
    )
    images = derived.train_images if derived.search else len(derived.found.train)
    return tree | _detector_steps(derived, schedule.finetune, images)


def _retrain(derived: Derived, schedule: Schedule) -> Tree:
    if not derived.search:
        return {"init": Value("imagenet", "the published net is trained alone")}
    why = "quick; the paper's `classification` first trains a classifier from scratch"
    tree: Tree = {"init": Value("supernet", why)}
    if schedule.retrain != schedule.finetune:
        tree["finetune"] = _detector_steps(
            derived, schedule.retrain, len(derived.found.train), "; only what differs from `finetune`"
        )
    return tree


def _detector_steps(derived: Derived, steps: int, images: int, more: str = "") -> Tree:
    """What follows from the steps of a detector's training, supernet or single net."""
    epochs = steps * derived.finetune_batch / images
    milestones = [max(1, round(steps * 2 / 3)), max(2, round(steps * 8 / 9))]
    return {
        "steps": Value(steps, f"{epochs:.1f} epochs of {images:,} images{more}"),
        "milestones": Value(milestones, "2/3 and 8/9 of the steps [R]"),
        "warmup_steps": Value(max(1, min(500, steps // 12)), "a twelfth of the steps, at most 500 [R]"),
    } | _writing(steps)


def _evaluation(derived: Derived, schedule: Schedule) -> Tree:
    images = schedule.calibration
    batch = max(1, min(8, derived.finetune_batch, images))
    return {
        "calibration_images": Value(
            images, f"of {derived.train_images:,} training images; with few, AP depends on which they are"
        ),
        "calibration_batch_size": Value(
            batch, "as finetune.batch_size, at most 8 [R]: larger batches rank worse (docs/performance.md)"
        ),
        "batch_size": Value(max(1, min(20 if derived.is_small_net else 8, derived.search_images))),
    }


def _search(derived: Derived, schedule: Schedule) -> Tree:
    population, generations = schedule.population, schedule.generations
    children = max(1, round(0.4 * population))
    rest = "near the net below" if derived.searches_near else "random [P]"
    return {
        "population": Value(population, f"x generations = {population * generations} candidates"),
        "generations": Value(generations),
        "parents": Value(
            max(2, round(0.2 * population)), "a fifth of the population breeds, as in the paper;"
        ),
        "mutations": Value(children, "two fifths are mutations,"),
        "crossovers": Value(children, f"two fifths crossovers, the rest {rest}"),
    } | _budget(derived)


def _budget(derived: Derived) -> Tree:
    """Around a published net: the limit on a candidate's cost, and on a CPU the net to search near."""
    if derived.pretraining.kind != "imagenet":
        return {}
    if not derived.searches_near:
        published = published_macs(derived.space)
        return {"constraint": {"max_macs": Value(published, "the published net's, at 224 pixels")}}
    why = "the published net, 3x3 with half of the inner channels where that saves most (narrowed_net.json)"
    limit = f"{derived.share:g} of the published net's, at 224 pixels: a narrower net trains faster"
    return {
        "around": Value(derived.near, why),
        "constraint": {"max_macs": Value(derived.narrow_macs, limit)},
    }


def _hardware(derived: Derived) -> Tree:
    machine = derived.machine
    if machine.gpus:
        workers = max(1, min(8, machine.cores // machine.gpus - 1))
        return {
            "device": Value("cuda"),
            "devices": Value(machine.gpus, "GPUs of this machine"),
            "workers": Value(workers, f"loader processes per GPU; {machine.cores} cores"),
        }
    return {
        "device": Value("cpu", "no GPU was found, or none was asked for"),
        "workers": Value(1 if machine.cores > 1 else 0, f"{machine.cores} cores"),
        "threads": Value(
            max(1, machine.cores // 2), "half of the cores: a step is slow if threads wait for a busy core"
        ),
    }


def _writing(steps: int) -> Tree:
    """How often a training logs and saves: ten times, and at least every 1,000 steps."""
    return {
        "log_every": Value(max(1, min(50, steps // 10))),
        "checkpoint_every": Value(max(1, min(1000, steps // 5))),
    }


def _per_device(derived: Derived, batch: int) -> str:
    if not derived.machine.gpus:
        return "for a CPU"
    return f"{batch // derived.devices} per GPU of {derived.machine.gpu_memory:.0f} GB"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


_COLUMNS = 110


def render(tree: Tree, header: Sequence[str]) -> str:
    """The text of detnas.yaml: the header as a comment, then each key with the reason for its value."""
    comment = "\n".join(f"# {line}".rstrip() for line in header)
    return "\n".join([comment, *_lines(tree, "")]) + "\n"


def _lines(tree: Tree, indent: str) -> list[str]:
    lines: list[str] = []
    for key, entry in tree.items():
        if not isinstance(entry, Value):
            lines += [f"{indent}{key}:", *_lines(entry, indent + "  ")]
            continue
        line = f"{indent}{key}: {scalar(entry.value)}"
        if not entry.why:
            lines.append(line)
        elif len(line) + len(entry.why) + 3 <= _COLUMNS:
            lines.append(f"{line} # {entry.why}")
        else:
            wrapped = textwrap.wrap(entry.why, _COLUMNS - len(indent) - 2)
            lines += [*(f"{indent}# {part}" for part in wrapped), line]
    return lines


def scalar(value: object) -> str:
    """A value on one line, as YAML."""
    if isinstance(value, tuple):
        value = list(value)
    text = to_yaml(value, default_flow_style=True, width=float("inf"), allow_unicode=True)
    return text.removesuffix("...\n").strip()
