"""Measuring a net on either split, by either metric, without a search around it."""

import multiprocessing
from pathlib import Path

import pytest
import torch
from PIL import Image

from detnas_nni.errors import ConfigError
from detnas_nni.evaluation.calibration import recalibrate
from detnas_nni.evaluation.candidate import CandidateEvaluation
from detnas_nni.evaluation.tasks import open_task
from detnas_nni.metrics import GroundTruth
from tests.own_truth import write_own_truth
from tests.search.searching import tiny

MIXED = tiny(1, 2, 3, 0)

TASKS = pytest.mark.parametrize("task", ["detection", "classification"])


@pytest.fixture(scope="module")
def nets(supernets, make_config):
    """A net of each task with the supernet's weights, its BN statistics calibrated."""

    def net(task):
        config = make_config(supernets, evaluation={"task": task}, detector={"score_threshold": 0.0})
        evaluation = CandidateEvaluation(config)
        net, opened = evaluation.net(MIXED), evaluation.task
        torch.manual_seed(0)  # torchvision samples proposals
        recalibrate(net, opened.training_batches(4, 4, seed=0), opened.loss)
        return net

    return {task: net(task) for task in ("detection", "classification")}


@pytest.fixture(scope="module")
def own_truth(nets, shapes, tmp_path_factory):
    """The splits of a config, which hold what the detector finds."""
    folder, splits = tmp_path_factory.mktemp("truth"), {}
    for split in ("search", "test"):
        images, annotations = shapes / "detection" / split, shapes / "detection" / f"{split}.json"
        out = write_own_truth(nets["detection"], images, annotations, folder / f"{split}.json")
        splits[split] = {"images": str(images), "annotations": str(out)}
    return splits


@pytest.mark.parametrize(("metric", "key"), [("voc07", "mAP07"), ("voc", "mAP")])
def test_vocs_metric_is_the_fitness_and_cocos_stands_beside_it(
    nets, supernets, make_config, own_truth, metric, key
):
    net, parts, data = nets["detection"], [], {"detection": own_truth}
    coco = open_task(make_config(supernets, data=data)).measure(net)
    config = make_config(supernets, data=data, evaluation={"metric": metric})
    measured = open_task(config).measure(net, parts.append)
    assert set(measured) == {"default", "mAP07", "mAP", "AP", "AP50"}
    assert measured["default"] == measured[key] > 0
    assert measured["mAP07"] != measured["mAP"]
    assert (measured["AP"], measured["AP50"]) == (coco["default"], coco["AP50"])
    assert measured["mAP"] == pytest.approx(coco["AP50"], abs=0.05)  # the same rule but for the ties
    assert parts[-1] == measured and len(parts) == 2
    assert all(type(value) is float for value in measured.values())


@pytest.mark.parametrize("metric", ["coco", "voc07"])
def test_the_ground_truth_is_read_once_for_all_candidates_and_all_parts(
    nets, supernets, make_config, own_truth, metric, monkeypatch
):
    read, init, parts = [], GroundTruth.__init__, []

    def counted(self, source):
        read.append(source)
        init(self, source)

    monkeypatch.setattr(GroundTruth, "__init__", counted)
    config = make_config(supernets, data={"detection": own_truth}, evaluation={"metric": metric})
    task = open_task(config)
    first, second = (task.measure(nets["detection"], parts.append) for _ in range(2))
    assert first == second and first["default"] > 0
    assert (len(parts), len(read)) == (4, 1)


def test_a_detection_test_split_is_measured_as_the_search_split_is(nets, supernets, make_config, own_truth):
    """The two splits changed places: what was measured on one is measured on the other."""
    config = make_config(supernets, data={"detection": own_truth})
    changed = {"search": own_truth["test"], "test": own_truth["search"]}
    turned = make_config(supernets, data={"detection": changed})
    net = nets["detection"]
    on_test, on_search = (open_task(config, split=name).measure(net) for name in ("test", "search"))
    assert 0 < on_test["default"] != on_search["default"] > 0
    assert open_task(turned, split="search").measure(net) == on_test
    assert open_task(turned, split="test").measure(net) == on_search


def test_top_1_is_measured_on_the_test_folder(nets, supernets, make_config):
    """24 images there, 12 held out of the training folder."""
    config, net = make_config(supernets), nets["classification"]
    on_test, on_search = (
        open_task(config, "classification", split).measure(net)["default"] for split in ("test", "search")
    )
    assert on_test * 24 == pytest.approx(round(on_test * 24))
    assert on_search * 12 == pytest.approx(round(on_search * 12))


@TASKS
def test_a_test_split_that_the_config_lacks_is_named(supernets, make_config, task):
    config = make_config(supernets, data={task: {"test": None}})
    with pytest.raises(ConfigError, match=rf"(no|neither) `data\.{task}\.test`"):
        open_task(config, task, split="test")
    assert open_task(config, task).training_images > 0


@TASKS
def test_data_that_the_config_lacks_is_named_for_a_test_split_too(supernets, make_config, task):
    with pytest.raises(ConfigError, match=rf"no `data\.{task}`"):
        open_task(make_config(supernets, data={task: None}), task, split="test")


@TASKS
def test_a_task_can_be_opened_beside_the_one_that_is_searched_for(supernets, make_config, task):
    other = {"detection": "classification", "classification": "detection"}[task]
    config = make_config(supernets, evaluation={"task": other})
    assert open_task(config).kind == open_task(config, other).kind != open_task(config, task).kind


@TASKS
def test_a_trial_run_trains_and_measures_on_few_images(supernets, make_config, task):
    opened = open_task(make_config(supernets, data={"max_images": 3}), task)
    assert opened.training_images == opened.measured_images == 3
    whole = open_task(make_config(supernets), task)
    assert opened.classes == whole.classes
    assert whole.measured_images == 12


@pytest.mark.parametrize("train_difficult", [False, True])
def test_difficult_objects_are_in_the_training_batches_if_the_config_says_so(
    make_config, tmp_path: Path, train_difficult
):
    config = make_config(
        tmp_path / "run",
        data={
            "detection": {
                "format": "voc",
                "train": one_image(tmp_path / "train"),
                "search": one_image(tmp_path / "search"),
                "test": None,
                "train_difficult": train_difficult,
            }
        },
    )
    ((_, (target,)),) = open_task(config).training_batches(batch_size=1, steps=1, seed=0)
    hard = [[1, 1, 9, 9]] if train_difficult else []
    assert target["boxes"].tolist() == [[4, 5, 20, 25], *hard]


def one_image(root: Path) -> dict[str, str | None]:
    """A VOC folder with one easy and one difficult object, as a split of the config."""
    for folder in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (40, 30)).save(root / "JPEGImages" / "a.jpg")
    objects = "".join(
        f"<object><name>cat</name><difficult>{difficult}</difficult><bndbox><xmin>{box[0]}</xmin>"
        f"<ymin>{box[1]}</ymin><xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
        for box, difficult in (((4, 5, 20, 25), 0), ((1, 1, 9, 9), 1))
    )
    size = "<size><width>40</width><height>30</height></size>"
    (root / "Annotations" / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\n")
    return {"root": str(root), "image_set": "train", "images": None, "annotations": None}


def test_images_that_are_not_decoded_yet_still_come_from_loader_processes(supernets, make_config, tmp_path):
    """A fine-tuning's, beside a calibration's that are kept."""
    config = make_config(supernets, hardware={"workers": 1})
    task = open_task(config)
    calibration, others = (4, 1, 0), (4, 1, 1)

    def loaders(numbers):
        batches = task.training_batches(*numbers)
        next(batches)
        found = len(multiprocessing.active_children())
        batches.close()
        return found

    assert loaders(calibration) == 1
    task.keep_decoded(tmp_path, calibration)
    assert (loaders(calibration), loaders(others)) == (0, 1)
