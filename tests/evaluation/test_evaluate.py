"""Weights of a single net measured as they are, and what imported weights are good for."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from nni.nas.space import model_context
from pycocotools import cocoeval
from pycocotools.cocoeval import COCOeval
from torch import Tensor
from torchvision import tv_tensors

from detnas_nni.architecture import Architecture
from detnas_nni.cli import main
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.images import read_image
from detnas_nni.data.transforms import classification_eval, detection_eval
from detnas_nni.errors import CheckpointError, ConfigError
from detnas_nni.evaluation.candidate import CandidateEvaluation, is_single_net, measure_weights
from detnas_nni.finished.retrain import retrain
from detnas_nni.metrics import coco_box_ap
from detnas_nni.models import ClassifierSpace, DetectorSpace
from detnas_nni.supernet.inherit import weights_of_path
from detnas_nni.training.weights import file_hash, load_weights
from tests.own_truth import write_own_truth
from tests.test_reference import TINY, authors_state

NET = Architecture("tiny", (0, 1, 2, 3, 0, 1, 2, 3, 0))
OTHER = Architecture("tiny", (3,) * 9)
CLASSES = 6

Make = Callable[..., Config]
"""make_config of the root's conftest."""


@pytest.fixture(scope="module")
def trained(make_config: Make, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The weights of one net, `classifier` and `detector`, trained until their scores are no zeros."""
    folder = tmp_path_factory.mktemp("trained")
    NET.save(folder / "net.json")
    config = make_config(
        folder / "run",
        pretrain={"steps": 12, "bn_momentum": 0.3, "checkpoint_every": 100},
        finetune={
            "steps": 60,
            "lr": 0.04,
            "milestones": [1000],
            "bn_momentum": 0.3,
            "checkpoint_every": 100,
        },
    )
    (results,) = retrain(config, [folder / "net.json"])
    return {part: results.parent / part / "net.pt" for part in ("classifier", "detector")}


@pytest.fixture
def config(make_config: Make, tmp_path: Path) -> Config:
    """Of a run that holds nothing; every box counts, and an image a batch."""
    return make_config(tmp_path / "run", detector={"score_threshold": 0.0}, evaluation={"batch_size": 1})


@pytest.fixture(scope="module")
def on_own_truth(
    trained: dict[str, Path], make_config: Make, shapes: Path, tmp_path_factory: pytest.TempPathFactory
) -> Config:
    """As `config`; the objects are some of what the trained detector finds."""
    folder = tmp_path_factory.mktemp("truth")
    net = detector_by_hand(trained["detector"], make_config(folder, detector={"score_threshold": 0.0}))
    splits = {}
    for split in ("search", "test"):
        images, annotations = shapes / "detection" / split, shapes / "detection" / f"{split}.json"
        write_own_truth(net, images, annotations, out := folder / f"{split}.json")
        splits[split] = {"images": str(images), "annotations": str(out)}
    return make_config(
        folder / "run",
        detector={"score_threshold": 0.0},
        evaluation={"batch_size": 1},
        data={"detection": splits},
    )


def detector_by_hand(weights: Path, config: Config) -> DetectorSpace:
    with model_context(NET.choices):
        net = DetectorSpace("tiny", CLASSES, config.detector).eval()
    net.load_state_dict(load_weights(weights).state)
    return net


@torch.no_grad()
def top1_by_hand(weights: Path, images: Path) -> float:
    """Of an ImageFolder, whose sorted classes count from 0."""
    with model_context(NET.choices):
        net = ClassifierSpace("tiny", CLASSES).eval()
    net.load_state_dict(load_weights(weights).state)
    right = [
        int(net(classification_eval(32)(tv_tensors.Image(read_image(file)))[None]).argmax()) == label
        for label, folder in enumerate(sorted(images.iterdir()))
        for file in folder.iterdir()
    ]
    return sum(right) / len(right)


@torch.no_grad()
def ap_by_hand(weights: Path, config: Config, data: Path, split: str) -> dict[str, float]:
    """COCO's AP of the generated images, whose categories stand in the order of their labels from 1."""
    net = detector_by_hand(weights, config)
    (source,) = getattr(config.data.detection, split)
    truth = json.loads(source.annotations.read_text())
    categories = [category["id"] for category in truth["categories"]]
    detections = []
    for image in truth["images"]:
        file = data / "detection" / split / image["file_name"]
        (found,) = net([detection_eval()(tv_tensors.Image(read_image(file)))])
        for box, score, label in zip(
            *(found[key].tolist() for key in ("boxes", "scores", "labels")), strict=True
        ):
            x1, y1, x2, y2 = box
            detections.append(
                {
                    "image_id": image["id"],
                    "category_id": categories[label - 1],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": score,
                }
            )
    return coco_box_ap(truth, detections)


# A single net.


def test_the_top_1_of_a_classifier_is_that_of_the_net_as_it_stands(
    trained: dict[str, Path], config: Config, shapes: Path
) -> None:
    measured = measure_weights(config, trained["classifier"], "test")
    assert measured == {"default": top1_by_hand(trained["classifier"], shapes / "classification/val")}
    # Twelve images are held out.
    on_search_split = measure_weights(config, trained["classifier"])["default"]
    assert on_search_split * 12 == pytest.approx(round(on_search_split * 12))


@pytest.mark.parametrize("split", ["search", "test"])
def test_the_ap_of_a_detector_is_that_of_the_net_as_it_stands(
    split: str, trained: dict[str, Path], on_own_truth: Config, shapes: Path
) -> None:
    measured = measure_weights(on_own_truth, trained["detector"], split)
    expected = ap_by_hand(trained["detector"], on_own_truth, shapes, split)
    assert measured.pop("default") == pytest.approx(expected["AP"])
    assert measured == pytest.approx({key: expected[key] for key in measured})
    assert 0 < expected["AP"] < expected["AP50"]


def test_the_reported_ap_is_pycocotools_own_and_the_fitness_does_not_wait_for_it(
    trained: dict[str, Path],
    on_own_truth: Config,
    shapes: Path,
    supernets: Path,
    make_config: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Once, on the whole split, although the config asks for results on parts of it."""
    tables = []

    class Kept(COCOeval):
        def summarize(self) -> None:
            super().summarize()
            tables.append(self.stats.tolist())

    monkeypatch.setattr(cocoeval, "COCOeval", Kept)
    assert on_own_truth.evaluation.intermediate_results > 1
    measured = measure_weights(on_own_truth, trained["detector"], "test")
    [table] = tables
    names = ["default", "AP50", "AP75", "APs", "APm", "APl"]
    assert measured == dict(zip(names, table[:6], strict=True))
    CandidateEvaluation(make_config(supernets)).evaluate(NET)
    assert len(tables) == 1


def test_the_search_split_is_the_default(trained: dict[str, Path], on_own_truth: Config) -> None:
    by_split = [measure_weights(on_own_truth, trained["detector"], split) for split in ("search", "test")]
    assert measure_weights(on_own_truth, trained["detector"]) == by_split[0] != by_split[1]


def test_measuring_needs_no_supernet_and_writes_nothing(trained: dict[str, Path], config: Config) -> None:
    before = file_hash(trained["detector"])
    measure_weights(config, trained["detector"])
    assert file_hash(trained["detector"]) == before
    assert not config.run_dir.exists()


def test_a_single_net_is_told_from_a_supernet(trained: dict[str, Path], supernets: Path) -> None:
    assert all(map(is_single_net, trained.values()))
    assert not is_single_net(supernets / "finetune/supernet.pt")


@pytest.mark.parametrize(
    ("part", "sections", "message"),
    [
        ("detector", {"detector": {"name": "retinanet"}}, "kind is 'faster_rcnn', .*'retinanet'"),
        ("detector", {"space": {"name": "small"}}, "space is 'tiny', .*'small'"),
        ("classifier", {"space": {"options": {"shuffle": "even_odd"}}}, r"options is \{\}, .*'even_odd'"),
        ("detector", {"detector": {"fpn_channels": 32}}, "the weights do not fit the config's net: .*fpn"),
    ],
)
def test_weights_that_the_config_does_not_fit_are_refused(
    part: str,
    sections: dict[str, Any],
    message: str,
    trained: dict[str, Path],
    make_config: Make,
    tmp_path: Path,
) -> None:
    with pytest.raises(CheckpointError, match=rf"{part}/net\.pt: .*{message}"):
        measure_weights(make_config(tmp_path / "run", **sections), trained[part])


def test_weights_of_classes_in_another_order_are_refused(
    trained: dict[str, Path], make_config: Make, tmp_path: Path
) -> None:
    reordered = list(reversed(load_weights(trained["detector"]).info.classes))
    config = make_config(tmp_path / "run", data={"detection": {"classes": reordered}})
    with pytest.raises(CheckpointError, match=r"detector/net\.pt: .*classes is circle, .*says .*, circle;"):
        measure_weights(config, trained["detector"])


def test_another_net_and_a_supernet_are_refused(
    trained: dict[str, Path], config: Config, supernets: Path
) -> None:
    with pytest.raises(CheckpointError, match=f"of the architecture {NET} of tiny; those of {OTHER} of tiny"):
        measure_weights(config, trained["detector"], architecture=OTHER)
    with pytest.raises(CheckpointError, match="weights of a supernet; a single net's are needed"):
        measure_weights(config, supernets / "finetune/supernet.pt")


@pytest.mark.parametrize(("part", "data"), [("classifier", "classification"), ("detector", "detection")])
def test_a_split_that_the_config_lacks_is_named(
    part: str, data: str, trained: dict[str, Path], make_config: Make, tmp_path: Path
) -> None:
    config = make_config(tmp_path / "run", data={data: {"test": None}})
    with pytest.raises(ConfigError, match=rf"(no|neither) `data\.{data}\.test`"):
        measure_weights(config, trained[part], "test")
    with pytest.raises(ConfigError, match=rf"no `data\.{data}`"):
        measure_weights(make_config(tmp_path / "run", data={data: None}), trained[part])


# `detnas evaluate --weights`.


@pytest.fixture
def evaluate(
    write_config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., dict[str, float] | str]:
    """evaluate(option, …, status=0, config's sections): what is printed; of a failure the error."""

    def call(*options: object, status: int = 0, **sections: Any) -> dict[str, float] | str:
        config = write_config(tmp_path / "a.yaml", **sections)
        capsys.readouterr()
        assert main(["evaluate", "-c", str(config), *map(str, options)]) == status
        out, err = capsys.readouterr()
        return err if status else json.loads(out)

    return call


@pytest.mark.parametrize("part", ["classifier", "detector"])
def test_a_single_net_is_measured_without_being_named(
    part: str, evaluate: Callable[..., Any], trained: dict[str, Path], make_config: Make, tmp_path: Path
) -> None:
    weights, config = trained[part], make_config(tmp_path / "run")
    assert evaluate("--weights", weights) == measure_weights(config, weights, "test")
    assert evaluate("--weights", weights, "--split", "search") == measure_weights(config, weights, "search")
    assert evaluate("--weights", weights, "--ops", NET) == measure_weights(config, weights, "test")
    assert "those of 3,3,3,3,3,3,3,3,3 of tiny" in evaluate("--weights", weights, "--ops", OTHER, status=1)


def test_another_supernets_candidate_is_measured_with_its_weights(
    evaluate: Callable[..., Any], supernets: Path, make_config: Make
) -> None:
    printed = evaluate("--weights", supernets / "finetune/supernet.pt", "--ops", NET)
    expected = CandidateEvaluation(make_config(supernets)).evaluate(NET).reported()
    assert {**printed, "seconds": 0} == {**expected, "seconds": 0}


def test_a_supernets_candidate_has_to_be_named_and_stays_off_the_test_split(
    evaluate: Callable[..., Any], supernets: Path
) -> None:
    supernet = ("--weights", supernets / "finetune/supernet.pt")
    for options in (supernet, ()):
        assert "weights of a supernet need --arch or --ops" in evaluate(*options, status=2)
    for options in (supernet, ()):
        line = evaluate(*options, "--ops", NET, "--split", "test", status=2)
        assert "--split test is for a net that was trained on its own" in line


def test_weights_that_are_not_there_or_damaged_are_named(
    evaluate: Callable[..., Any], tmp_path: Path
) -> None:
    file = tmp_path / "some.pt"
    assert f"{file}: there are no weights" in evaluate("--weights", file, status=1)
    file.write_bytes(b"no weights")
    assert f"{file}: cannot be read as a checkpoint" in evaluate("--weights", file, status=1)


# What the authors released.


@pytest.fixture
def imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """imported(ops): the authors' weights of a net, or of the supernet, through `detnas import-reference`."""

    def call(ops: Sequence[int] | None) -> Path:
        state = authors_state("tiny", ops)
        # As many classes as the images have.
        state |= {key: state[key][:CLASSES] for key in ("fc.fc.weight", "fc.fc.bias")}
        file, out = tmp_path / "released.pth", tmp_path / "imported.pt"
        torch.save({"state_dict": state}, file)
        assert main(["import-reference", str(file), "--out", str(out)]) == 0
        assert str(out) in capsys.readouterr().out
        return out

    return call


EVEN_ODD = {"space": {"options": {"shuffle": "even_odd"}}}


def test_an_imported_net_is_measured_with_the_shuffle_it_was_trained_with(
    imported: Callable[..., Path], evaluate: Callable[..., Any]
) -> None:
    weights = imported(TINY)
    assert set(evaluate("--weights", weights, "--split", "test", **EVEN_ODD)) == {"default"}
    assert "'shuffle': 'even_odd'" in evaluate("--weights", weights, status=1)


def test_an_imported_net_is_a_start_of_the_final_net(
    imported: Callable[..., Path],
    write_config: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, arch = imported(TINY), tmp_path / "net.json"
    Architecture("tiny", TINY).save(arch)
    standing = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0, "bn_momentum": 1e-30}
    config = write_config(tmp_path / "a.yaml", finetune=standing, **EVEN_ODD)
    assert main(["retrain", "-c", str(config), "--arch", str(arch), "--init", str(weights)]) == 0
    results = Path(capsys.readouterr().out.splitlines()[0])
    trunk = load_weights(results.parent / "detector/net.pt").trunk_state
    assert_same(trunk, load_weights(weights).trunk_state)
    document = json.loads(results.read_text())
    assert document["init"] == "file"
    assert document["classification"] == measure_weights(load_config(config), weights, "test")


def test_an_imported_supernet_takes_the_place_of_the_pre_training(
    imported: Callable[..., Path],
    evaluate: Callable[..., Any],
    write_config: Callable[..., Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    weights, arch = imported(None), tmp_path / "net.json"
    NET.save(arch)
    clsnas = {"evaluation": {"task": "classification"}}
    assert "default" in evaluate("--weights", weights, "--arch", arch, **clsnas)
    standing = {"steps": 1, "lr": 1e-30, "weight_decay": 0.0, "bn_momentum": 1e-30}
    config = str(write_config(tmp_path / "a.yaml", finetune={**standing, "weights": str(weights)}))
    assert main(["finetune", "-c", config]) == 0
    supernet = load_weights(Path(capsys.readouterr().out.strip()))
    assert_same(supernet.trunk_state, load_weights(weights).trunk_state)
    assert main(["retrain", "-c", config, "--arch", str(arch), "--init", str(weights)]) == 0
    results = Path(capsys.readouterr().out.splitlines()[0])
    trunk = load_weights(results.parent / "detector/net.pt").trunk_state
    assert_same(trunk, weights_of_path(load_weights(weights), NET).trunk_state)


def assert_same(state: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal but for how many batches were seen, and for what rounds away."""
    assert set(state) == set(expected)
    for name in state:
        if not name.endswith("num_batches_tracked"):
            assert torch.allclose(state[name], expected[name], rtol=0, atol=1e-20), name
