"""The experiments that are shipped: each says what it is, agrees with the published numbers, and runs."""

import json
import os
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from nni.experiment.config import ExperimentConfig

from detnas_nni import cli
from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config, read_extended
from detnas_nni.cost.table import cost_table
from detnas_nni.reproduce import Experiment, experiments
from detnas_nni.training.runs import pretrain_run

ROOT = Path(__file__).parents[1]
# Of the study there is more than one config: tests/evidence.
_OTHERS = ("shared", "evidence")
FOLDERS = sorted(
    path for path in (ROOT / "experiments").iterdir() if path.is_dir() and path.name not in _OTHERS
)
FILES = [folder / "detnas.yaml" for folder in FOLDERS]
OF_THE_PAPER = experiments(ROOT / "experiments")
SEARCHES = [experiment for experiment in OF_THE_PAPER if "search" in experiment.reproduces.steps]
NNICTL = [
    experiment.file.with_name(f"{arm}.yaml")
    for experiment in SEARCHES
    for arm in ("search", "search_detnas", "search_random")
]

STEPS = {experiment.name: experiment.reproduces.steps for experiment in OF_THE_PAPER} | {
    # Not of the paper: examples of the whole way, and of a small set of one's own.
    "quickstart": ("pretrain", "finetune", "search", "retrain"),
    "bccd": ("finetune", "search"),
}

# README of megvii-model/ShuffleNet-Series (box AP, VOC mAP, top-1 error), megvii-model/DetNAS (AP_code).
PUBLISHED = {
    "coco_fpn_300m": {"AP": 36.4, "AP_code": 36.6, "top1_error": 26.2},
    "coco_retinanet_300m": {"AP": 33.3, "AP_code": 34.1, "top1_error": 26.0},
    "coco_fpn_1.3g": {"AP": 40.0, "AP_code": 40.3, "top1_error": 22.8},
    "coco_fpn_3.8g": {"AP": 42.0, "AP_code": 42.0, "top1_error": 21.6},
    "voc_fpn_300m": {"VOC_mAP": 81.5, "top1_error": 25.9},
    "voc_retinanet_300m": {"VOC_mAP": 80.1, "top1_error": 25.4},
    "coco_fpn_resnet50": {"AP": 37.3, "top1_error": 23.9},
    "coco_fpn_resnet101": {"AP": 40.0, "top1_error": 22.6},
}

# Which of the published nets an experiment's own search stands for.
PUBLISHED_NETS = {
    "coco_fpn_300m": "detnas-coco-fpn-300m",
    "coco_retinanet_300m": "detnas-coco-retinanet-300m",
    "coco_fpn_1.3g": "detnas-coco-fpn-1.3g",
    "voc_fpn_300m": "detnas-voc-fpn-300m",
    "voc_retinanet_300m": "detnas-voc-retinanet-300m",
}


def by_folder(value: Any) -> str:
    return value.parent.name if isinstance(value, Path) else value.name


@pytest.fixture(autouse=True)
def data_of_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("IMAGENET", "COCO", "VOC", "DETNAS_REAL_DATA"):
        monkeypatch.setenv(variable, f"/data/{variable.lower()}")


def comment(file: Path) -> str:
    """The lines that a file opens with, without their marks."""
    lines = file.read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line.removeprefix("#").strip() for line in lines[:end])


def test_the_folder_holds_experiments_and_what_they_share_and_nothing_else() -> None:
    assert {path.name for path in FOLDERS} == set(STEPS)
    assert all(file.is_file() for file in FILES)
    shared = {path.name for path in (ROOT / "experiments/shared").iterdir()}
    used = {Path(base).name for file in FILES for base in yaml.safe_load(file.read_text()).get("extends", [])}
    assert shared == used


@pytest.mark.parametrize("file", FILES, ids=by_folder)
def test_an_experiment_loads_and_writes_to_a_folder_of_its_own_name(file: Path) -> None:
    config = load_config(file)
    assert config.run_dir == ROOT / "runs" / file.parent.name


@pytest.mark.parametrize("experiment", OF_THE_PAPER, ids=by_folder)
def test_an_experiment_opens_with_its_commands_its_number_and_its_cost(experiment: Experiment) -> None:
    said = comment(experiment.file)
    assert f"detnas reproduce experiments/{experiment.name}\n" in said
    for step in experiment.reproduces.steps:
        assert f"detnas {step} -c experiments/{experiment.name}/detnas.yaml" in said
    assert "Published: " in said
    assert "GPU-days: " in said
    assert "Reproduced here: no" in said
    for number in experiment.reproduces.published.values():
        assert f"{number:.1f}" in said
    if experiment.reproduces.architectures:
        [architecture] = experiment.reproduces.architectures
        assert f"--arch {architecture.relative_to(ROOT)}" in said
    variables = set(re.findall(r"\$\{(\w+)\}", json.dumps(read_extended(experiment.file))))
    exported = re.search(r"^export (.*)$", said, re.MULTILINE)[1]
    assert {assignment.split("=")[0] for assignment in exported.split()} == variables


@pytest.mark.parametrize("experiment", OF_THE_PAPER, ids=by_folder)
def test_the_published_numbers_are_those_of_the_sources(experiment: Experiment) -> None:
    assert experiment.reproduces.published == PUBLISHED.get(experiment.name, {})


def test_the_documentation_has_a_row_for_each_experiment() -> None:
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in text.splitlines() if row[:3] == "| `"]
    documented = {row[0].strip("`"): row[1:] for row in rows if len(row) == 4}
    assert documented.keys() == {experiment.name for experiment in OF_THE_PAPER}
    for experiment in OF_THE_PAPER:
        what, published, steps = documented[experiment.name]
        assert (what, steps) == (experiment.reproduces.what, ", ".join(experiment.reproduces.steps))
        numbers = [float(number) for number in re.findall(r"\d+\.\d", published)]
        assert numbers == list(experiment.reproduces.published.values())


@pytest.mark.parametrize("name", PUBLISHED_NETS)
def test_a_published_net_is_within_its_experiments_limit(name: str) -> None:
    config = load_config(ROOT / f"experiments/{name}/detnas.yaml")
    net = Architecture.from_json(ROOT / f"search_spaces/published/{PUBLISHED_NETS[name]}.json")
    assert net.space == config.space.name
    limits = config.search.constraint
    cost = cost_table(net.space, limits.resolution).cost(net)
    assert limits.max_macs is not None
    assert limits.max_params is None or cost.params <= limits.max_params
    # And the limit binds: it is not a number from anywhere.
    assert 0.95 * limits.max_macs < cost.macs <= limits.max_macs


@pytest.mark.parametrize("experiment", OF_THE_PAPER, ids=by_folder)
def test_a_net_that_is_retrained_is_of_the_experiments_space_or_found_by_another_one(
    experiment: Experiment,
) -> None:
    space = load_config(experiment.file).space.name
    found = {path: other for other in OF_THE_PAPER for path in other.found()}
    for path in experiment.reproduces.architectures:
        if path in found:
            assert load_config(found[path].file).space.name == space
        else:
            assert Architecture.from_json(path).space == space


def test_those_that_share_an_imagenet_supernet_train_the_same_one() -> None:
    sharing: dict[Path, set[str]] = defaultdict(set)
    searched = defaultdict(int)
    for experiment in SEARCHES:
        config = load_config(experiment.file)
        run = pretrain_run(config)
        sharing[run.folder].add(run.fingerprint)
        searched[run.folder] += "pretrain" in experiment.reproduces.steps
    assert all(len(fingerprints) == 1 for fingerprints in sharing.values())
    assert searched[ROOT / "runs/imagenet_small"] == 5


def test_final_nets_of_one_architecture_share_a_classifier() -> None:
    """What its training depends on is the same in all experiments of a space, and so is where it is kept."""
    recipes = defaultdict(set)
    for experiment in OF_THE_PAPER:
        config = load_config(experiment.file)
        assert config.retrain.classifier_dir == ROOT / "runs/imagenet_classifiers"
        assert config.retrain.pretrain is None
        recipes[config.space.name].add(
            config.fingerprint("seed", "space", "pretrain", data=config.data.classification)
        )
    assert all(len(recipe) == 1 for recipe in recipes.values())


def differences(first: Config, second: Config) -> set[str]:
    """The dotted keys that differ, without what only says where things are and what it is."""

    def leaves(value: Any, key: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            return {key: value}
        return {k: v for name, part in value.items() for k, v in leaves(part, f"{key}.{name}").items()}

    exclude = {"run_dir", "reproduces"}
    one, two = (leaves(config.model_dump(mode="json", exclude=exclude), "") for config in (first, second))
    return {key.removeprefix(".") for key in one.keys() | two.keys() if one.get(key) != two.get(key)}


@pytest.mark.parametrize(
    "name", ["coco_fpn_300m", "coco_retinanet_300m", "voc_fpn_300m", "voc_retinanet_300m"]
)
def test_a_scratch_variant_differs_in_its_supernets_start_alone(name: str) -> None:
    usual, scratch = (load_config(ROOT / f"experiments/{name}{end}/detnas.yaml") for end in ("", "_scratch"))
    assert differences(usual, scratch) == {"finetune.init"}


@pytest.mark.parametrize(
    ("name", "baseline", "keys"),
    [
        ("coco_fpn_300m", "coco_fpn_300m_random", set()),
        ("coco_fpn_300m", "coco_fpn_shufflenetv2_20", set()),
        ("coco_retinanet_300m", "coco_retinanet_shufflenetv2_20", set()),
        ("coco_retinanet_300m", "coco_retinanet_clsnas", set()),
        ("voc_fpn_300m", "voc_fpn_shufflenetv2_20", set()),
        ("voc_fpn_300m", "voc_fpn_clsnas", set()),
        ("voc_retinanet_300m", "voc_retinanet_shufflenetv2_20", set()),
        ("voc_retinanet_300m", "voc_retinanet_clsnas", set()),
        ("coco_fpn_300m", "imagenet_cls_300m", {"evaluation.task", "evaluation.calibration_batch_size"}),
        ("coco_fpn_1.3g", "coco_fpn_shufflenetv2_40", set()),
    ],
)
def test_a_baseline_is_trained_and_measured_as_what_it_is_compared_with(
    name: str, baseline: str, keys: set[str]
) -> None:
    first, second = (load_config(ROOT / f"experiments/{part}/detnas.yaml") for part in (name, baseline))
    assert differences(first, second) == keys


def test_a_wider_or_another_net_is_trained_as_the_searched_one() -> None:
    searched = load_config(ROOT / "experiments/coco_fpn_1.3g/detnas.yaml")
    for name in ("coco_fpn_3.8g", "coco_fpn_resnet50", "coco_fpn_resnet101"):
        other = load_config(ROOT / f"experiments/{name}/detnas.yaml")
        assert differences(searched, other) == {"space.name", "search.constraint.max_macs"}


def test_the_schedules_are_those_of_the_sources() -> None:
    coco = load_config(ROOT / "experiments/coco_fpn_300m/detnas.yaml")
    assert (coco.pretrain.steps, coco.pretrain.batch_size, coco.pretrain.lr) == (300_000, 1024, 0.5)
    assert (coco.pretrain.weight_decay, coco.pretrain.label_smoothing) == (4e-5, 0.1)
    assert coco.pretrain.macs_bins == tuple((n * 10**6, (n + 10) * 10**6) for n in range(290, 360, 10))
    assert (coco.finetune.steps, coco.finetune.batch_size, coco.finetune.lr) == (90_000, 16, 0.02)
    assert (coco.finetune.milestones, coco.finetune.warmup_steps) == ((60_000, 80_000), 500)
    assert coco.data.detection.holdout == 5000
    evaluation = coco.evaluation
    assert evaluation.calibration_images == 500 * evaluation.calibration_batch_size == 500 * 8
    assert evaluation.calibration_momentum == 0.1
    search = coco.search
    assert (search.population, search.generations, search.parents) == (50, 20, 10)
    assert (search.mutations, search.crossovers, search.mutation_probability) == (20, 20, 0.1)
    retinanet = load_config(ROOT / "experiments/coco_retinanet_300m/detnas.yaml")
    assert (retinanet.finetune.lr, retinanet.detector.nms) == (0.01, 0.4)
    voc = load_config(ROOT / "experiments/voc_retinanet_300m/detnas.yaml")
    assert (voc.finetune.steps, voc.finetune.milestones, voc.finetune.lr) == (22_500, (15_000, 20_000), 0.01)
    assert voc.evaluation.metric == "voc07"
    assert all(source.one_based for source in (*voc.data.detection.train, *voc.data.detection.test))


@pytest.mark.parametrize("file", NNICTL, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_an_nnictl_file_is_the_search_that_its_name_says(file: Path) -> None:
    values = yaml.safe_load(file.read_text(encoding="utf-8"))
    strategy = {
        "search": "regularized_evolution",
        "search_detnas": "detnas",
        "search_random": "random",
    }[file.stem]
    arguments = values["tuner"]["classArgs"]
    assert arguments["config"] == "detnas.yaml"
    overrides = arguments.get("overrides", [])
    command = "".join(f" --set {override}" for override in overrides)
    assert values["trialCommand"] == f"detnas trial -c detnas.yaml{command}"
    assert ExperimentConfig.load(file).trial_command == values["trialCommand"]  # NNI takes its keys
    config = load_config(file.with_name("detnas.yaml"), overrides)
    assert config.search.strategy == strategy
    assert config.search.evaluations == 1000
    assert values["searchSpaceFile"] == f"../../search_spaces/{config.space.name}.json"
    slug = file.parent.name.replace("_", "-")
    arm = "" if strategy == "detnas" else "-" + strategy.replace("_", "-")
    assert values["experimentName"] == f"detnas-{slug}{arm}"
    assert values["trialConcurrency"] == config.hardware.devices
    assert (values["trialGpuNumber"], values["trainingService"]) == (
        1,
        {"platform": "local", "useActiveGpu": False},
    )
    said = comment(file)
    assert f"nnictl create --config {file.relative_to(ROOT)}" in said
    assert str(config.search_dir.relative_to(ROOT)) in said


@pytest.mark.parametrize("experiment", SEARCHES, ids=by_folder)
def test_the_arms_of_a_search_are_all_there_and_share_no_journal(experiment: Experiment) -> None:
    files = [file for file in NNICTL if file.parent == experiment.file.parent]
    on_clusters = {"search_remote.yaml", "search_kubernetes.yaml"}  # tests/test_clusters.py
    assert {file.name for file in experiment.file.parent.glob("search*.yaml")} - on_clusters == {
        file.name for file in files
    }
    configs = []
    for file in files:
        overrides = yaml.safe_load(file.read_text())["tuner"]["classArgs"].get("overrides", [])
        configs.append(load_config(experiment.file, overrides))
    assert len({config.search_dir for config in configs}) == 3
    # One budget, one limit, one supernet: they differ in what proposes alone.
    first = configs[0]
    assert all(differences(first, other) == {"search.strategy", "search.name"} for other in configs[1:])


def write_voc(root: Path, image_set: str, images: Path, annotations: Path) -> None:
    """An image set in the form of the original VOC, pixels counted from 1, from one in COCO's."""
    for folder in ("Annotations", "ImageSets/Main", "JPEGImages"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    content = json.loads(annotations.read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    listed = []
    for image in content["images"]:
        name = f"{image_set}_{Path(image['file_name']).stem}"
        listed.append(name)
        os.link(images / image["file_name"], root / "JPEGImages" / f"{name}.jpg")
        tree = ElementTree.Element("annotation")
        size = ElementTree.SubElement(tree, "size")
        for side in ("width", "height"):
            ElementTree.SubElement(size, side).text = str(image[side])
        for entry in content["annotations"]:
            if entry["image_id"] != image["id"]:
                continue
            x, y, width, height = entry["bbox"]
            found = ElementTree.SubElement(tree, "object")
            ElementTree.SubElement(found, "name").text = names[entry["category_id"]]
            ElementTree.SubElement(found, "difficult").text = "0"
            box = ElementTree.SubElement(found, "bndbox")
            corners = {"xmin": x + 1, "ymin": y + 1, "xmax": x + width, "ymax": y + height}
            for corner, value in corners.items():
                ElementTree.SubElement(box, corner).text = str(value)
        ElementTree.ElementTree(tree).write(root / "Annotations" / f"{name}.xml")
    (root / "ImageSets/Main" / f"{image_set}.txt").write_text("\n".join(listed) + "\n")


@pytest.fixture(scope="module")
def data(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Generated images laid out as ImageNet, COCO, VOC and BCCD are: the variable of each, and its folder."""
    root = tmp_path_factory.mktemp("data")
    detection = shapes / "detection"
    (root / "coco/annotations").mkdir(parents=True)
    (root / "bccd/images").mkdir(parents=True)
    for split, coco, bccd in (("train", "train2017", "train"), ("test", "val2017", "val")):
        (root / "coco" / coco).symlink_to(detection / split)
        annotations = detection / f"{split}.json"
        (root / f"coco/annotations/instances_{coco}.json").symlink_to(annotations)
        content = json.loads(annotations.read_text())
        for image in content["images"]:
            name = f"{split}_{image['file_name']}"
            (root / "bccd/images" / name).symlink_to(detection / split / image["file_name"])
            image["file_name"] = name
        (root / f"bccd/{bccd}.json").write_text(json.dumps(content))
    for year, image_set, split in (
        ("2007", "trainval", "train"),
        ("2012", "trainval", "search"),
        ("2007", "test", "test"),
    ):
        write_voc(root / f"VOCdevkit/VOC{year}", image_set, detection / split, detection / f"{split}.json")
    return {
        "IMAGENET": shapes / "classification",
        "COCO": root / "coco",
        "VOC": root / "VOCdevkit",
        "DETNAS_REAL_DATA": root / "bccd",
    }


@pytest.fixture
def quick(shapes: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """quick(name): what makes an experiment small enough for a CPU; nothing else of it is changed."""

    def overrides(name: str) -> list[str]:
        values = {
            "run_dir": str(tmp_path / "run"),
            "hardware.device": "cpu",
            "hardware.devices": 1,
            "hardware.workers": 0,
            "hardware.threads": 1,
            "detector.min_size": 64,
            "detector.max_size": 96,
            # An untrained RPN proposes as many boxes as it may, and each goes through the whole box head.
            "detector.rpn_proposals_train": 50,
            "detector.rpn_proposals_test": 20,
            "detector.box_samples": 16,
        }
        # The generated sets are smaller than what is held out of the real ones.
        values["data.detection.holdout"] = 6
        if "pretrain" in STEPS[name] or "retrain" in STEPS[name]:
            # 64, not 32: BN over two images of one pixel each, in the last stage, lets gradients explode.
            values |= {"data.classification.image_size": 64, "data.classification.holdout": 12}
        if name == "quickstart":  # its data is in the repository's `runs`
            for split, folder in (("train", "train"), ("test", "val")):
                values[f"data.classification.{split}"] = str(shapes / "classification" / folder)
            for split in ("train", "search", "test"):
                values[f"data.detection.{split}.images"] = str(shapes / "detection" / split)
                values[f"data.detection.{split}.annotations"] = str(shapes / f"detection/{split}.json")
        return [f"{key}={json.dumps(value)}" for key, value in values.items()]

    return overrides


@pytest.mark.slow  # seconds each, minutes together
@pytest.mark.parametrize("name", STEPS)
def test_every_step_of_an_experiment_runs(
    name: str,
    quick: Callable[[str], list[str]],
    data: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for variable, folder in data.items():
        monkeypatch.setenv(variable, str(folder))
    file, overrides = ROOT / f"experiments/{name}/detnas.yaml", quick(name)
    run_dir = tmp_path / "run/fast-dev-run"
    common = ["-c", str(file), "--fast-dev-run", *(f"--set={override}" for override in overrides)]
    nets = [run_dir / "search/best_architecture.json"]
    section = load_config(file, overrides).reproduces
    if section is not None and section.architectures:
        nets = list(section.architectures)
        if not nets[0].exists():  # what another experiment's search will have found
            nets = [ROOT / "search_spaces/published/shufflenetv2-20.json"]
    if "sample" in STEPS[name]:
        nets = [run_dir / f"samples/random_{number:02d}.json" for number in range(2)]
    further = {"sample": ["--count", str(len(nets))], "retrain": ["--arch", *map(str, nets)]}
    for step in STEPS[name]:
        assert cli.main([step, *common, *further.get(step, [])]) == 0, step

    if "retrain" in STEPS[name]:
        results = [json.loads(path.read_text()) for path in run_dir.glob("retrain/*/results.json")]
        assert sorted(result["ops"] for result in results) == sorted(
            list(Architecture.from_json(net).ops) for net in nets
        )
        assert all(0 <= result["detection"]["default"] <= 1 for result in results)
        assert all(0 <= result["classification"]["default"] <= 1 for result in results)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fast-dev-run"]
