"""A config is typed and complete once it is read; whatever is wrong is named by file, key and value."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from detnas_nni.config import CocoSplit, Config, VocSplit
from detnas_nni.config.reading import load_config, parse_config
from detnas_nni.errors import ConfigError

Write = Callable[..., Path]


@pytest.fixture
def refused(write_config: Write, tmp_path: Path) -> Callable[..., str]:
    """refused(section={…}): the message that the small experiment with these changes is refused with."""

    def message(**sections: object) -> str:
        path = write_config(tmp_path / "bad.yaml", **sections)
        with pytest.raises(ConfigError) as raised:
            load_config(path)
        assert str(raised.value).startswith(f"{path}: ")
        return str(raised.value).removeprefix(f"{path}: ")

    return message


def minimal(text: str = "") -> str:
    return f"run_dir: run\ndata: {{}}\n{text}"


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "detnas.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_what_is_left_out_has_the_papers_value(tmp_path: Path) -> None:
    config = load_config(written(tmp_path, minimal()))
    assert config.space.name == "small"
    assert (config.pretrain.steps, config.pretrain.batch_size, config.pretrain.lr) == (300_000, 1024, 0.5)
    assert (config.finetune.steps, config.finetune.milestones) == (90_000, (60_000, 80_000))
    assert config.search.evaluations == 1000
    assert (config.detector.min_size, config.detector.max_size) == (800, 1333)


def test_a_value_that_is_given_replaces_the_default(write_config: Write, tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path / "detnas.yaml", search={"parents": 3}, seed=7))
    assert (config.search.parents, config.seed, config.space.name) == (3, 7, "tiny")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (
            {"seeed": 1},
            "seeed: unknown key; known here: data, detector, evaluation, finetune, finetune_dir, ",
        ),
        ({"hardware": {"device": "cpu", "gpus": 1}}, "hardware.gpus: unknown key; known here: device, "),
        (
            {"search": {"constraint": {"macs": 3}}},
            "search.constraint.macs: unknown key; known here: latency_runtime, latency_table, "
            "max_latency_ms, max_macs, max_params, resolution",
        ),
        (
            {"data": {"detection": {"train": {"image": "x"}}}},
            "data.detection.train.image: unknown key; known here: annotations, images",
        ),
        (
            {"data": {"classification": {"trian": "x"}}},
            "data.classification.trian: unknown key; known here: holdout, image_size, test, train",
        ),
    ],
)
def test_an_unknown_key_is_refused_beside_those_that_are_known(
    refused: Callable[..., str], sections: dict, message: str
) -> None:
    assert refused(**sections).startswith(message)


def test_an_unknown_key_of_a_voc_split_is_told_the_keys_of_one(
    refused: Callable[..., str], tmp_path: Path
) -> None:
    voc = {"root": str(tmp_path), "image_set": "train", "images": "x"}
    splits = {"train": {**voc, "annotations": None}, "search": None, "test": None}
    message = refused(data={"detection": {"format": "voc", **splits}})
    known = "backgrounds, image_set, one_based, root"
    assert f"data.detection.train.images: unknown key; known here: {known}" in message


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seed": "0"}, "seed: Input should be a valid integer, got '0'"),
        ({"seed": True}, "seed: Input should be a valid integer, got True"),
        ({"pretrain": {"steps": 10.5}}, "pretrain.steps: Input should be a valid integer, got 10.5"),
        ({"finetune": {"lr": "fast"}}, "finetune.lr: Input should be a valid number, got 'fast'"),
        ({"finetune": {"milestones": 3}}, "finetune.milestones: Input should be a valid array, got 3"),
        (
            {"finetune": {"milestones": [3, "x"]}},
            "finetune.milestones.1: Input should be a valid integer, got 'x'",
        ),
        ({"space": "tiny"}, "space: Input should be an object, got 'tiny'"),
        ({"data": {"detection": {"train": "train.json"}}}, "data.detection.train: Input should be an object"),
        ({"run_dir": 3}, "run_dir: Input should be a valid string, got 3"),
        (
            {"detector": {"name": "yolo"}},
            "detector.name: expected faster_rcnn, retinanet, or package.module:factory of your own, "
            "got 'yolo'",
        ),
    ],
)
def test_a_wrong_type_is_refused_with_the_value(
    refused: Callable[..., str], sections: dict, message: str
) -> None:
    assert refused(**sections).startswith(message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"seed": -1}, "seed: Input should be greater than or equal to 0, got -1"),
        ({"pretrain": {"lr": 0}}, "pretrain.lr: Input should be greater than 0, got 0"),
        ({"pretrain": {"momentum": 1.0}}, "pretrain.momentum: Input should be less than 1, got 1"),
        ({"pretrain": {"lr": float("nan")}}, "pretrain.lr: Input should be a finite number, got nan"),
        ({"pretrain": {"lr": float("inf")}}, "pretrain.lr: Input should be a finite number, got inf"),
        (
            {"data": {"detection": {"flip": 1.5}}},
            "data.detection.flip: Input should be less than or equal to 1",
        ),
        ({"search": {"name": "../elsewhere"}}, "search.name: String should match pattern"),
        ({"detector": {"max_size": 32}}, "detector: max_size 32 is below min_size 64"),
        (
            {"detector": {"anchor_sizes": [8, 16]}},
            "detector: anchor_sizes needs one size for each of the 5 pyramid levels, got 2",
        ),
        ({"pretrain": {"macs_bins": [[5, 5]]}}, "pretrain: macs_bins: [5, 5) is not a range"),
        ({"finetune": {"freeze": -1}}, "finetune.freeze: Input should be greater than or equal to 0, got -1"),
        (
            {"finetune": {"freeze": 2, "init": "scratch"}},
            "finetune.freeze is 2, but finetune.init is scratch: random weights would stay as they are; set "
            "freeze to 0, or start from imagenet or pretrain",
        ),
        (
            {"retrain": {"init": "scratch", "finetune": {"freeze": 1}}},
            "retrain.finetune.freeze is 1, but retrain.init is scratch: ",
        ),
        (
            {"pretrain": {"sampling": "balanced", "macs_bins": [[5, 9]]}},
            "pretrain: sampling is balanced, which draws every candidate equally often, but macs_bins draws "
            "paths by their cost; set macs_bins to null, or sampling to uniform",
        ),
        ({"search": {"mutations": 9}}, "search: mutations 9 + crossovers 1 exceed population 4"),
        (
            {"search": {"strategy": "regularized_evolution", "tournament": 9}},
            "search: tournament 9 exceeds population 4",
        ),
    ],
)
def test_a_value_out_of_range_is_refused_with_its_limit(
    refused: Callable[..., str], sections: dict, message: str
) -> None:
    assert refused(**sections).startswith(message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"data": None}, "data: missing; it has no default"),
        ({"data": {"classification": {"train": None}}}, "data.classification.train: missing"),
        ({"data": {"detection": {"train": {"images": None}}}}, "data.detection.train.images: missing"),
    ],
)
def test_a_key_without_a_default_has_to_be_there(
    refused: Callable[..., str], sections: dict, message: str
) -> None:
    assert refused(**sections).startswith(message)


def test_all_mistakes_are_named_at_once(refused: Callable[..., str]) -> None:
    lines = refused(seed=-1, hardware={"gpus": 1}, pretrain={"lr": "x"}).splitlines()
    assert len(lines) == 3
    assert all("bad.yaml: " in line for line in lines[1:])


def test_a_section_that_a_step_needs_has_to_be_there(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path, data={"classification": None})
    with pytest.raises(ConfigError, match=r"no `data\.classification`, which this step needs"):
        config.require("data.classification")
    assert config.require("data.detection") is config.data.detection


@pytest.mark.parametrize(
    ("given", "expected"),
    [("1e-4", 1e-4), ("1E-4", 1e-4), ("2.5e3", 2500.0), ("1.e-4", 1e-4), (".5e1", 5.0), ("1", 1.0)],
)
def test_a_number_is_read_as_people_write_it(tmp_path: Path, given: str, expected: float) -> None:
    config = load_config(written(tmp_path, minimal(f"finetune: {{lr: {given}}}")))
    assert config.finetune.lr == expected


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a mapping of sections, got NoneType"),
        ("- run_dir", "expected a mapping of sections, got list"),
        ("run_dir", "expected a mapping of sections, got str"),
        ("run_dir: [", "not valid YAML: "),
        ("run_dir: run\nseed: 1\nseed: 2\n", "not valid YAML: the key 'seed' occurs twice .*line 1"),
        ("data: {a: {lr: 1, lr: 2}}", "not valid YAML: the key 'lr' occurs twice"),
        ("run_dir: !!python/object/apply:os.getcwd []", "not valid YAML: could not determine a constructor"),
        ("[a]: 1", "not valid YAML: .*unhashable key"),
        ("a: &a [*a]", "Circular reference"),
        ("seed: 2020-99-99", "not valid YAML: month must be in"),
        (
            "run_dir: run\ndata: {}\nseed: 2020-01-01",
            "seed: Input should be a valid integer, got '2020-01-01'",
        ),
        ("x" * 1_000_001, "larger than 1000000 bytes"),
    ],
)
def test_what_is_no_mapping_in_yaml_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ConfigError, match=message) as raised:
        load_config(path)
    assert str(raised.value).startswith(f"{path}: ")


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ConfigError, match=r"weights\.pt: not valid YAML"):
        load_config(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read \(No such file"):
        load_config(tmp_path / "gone.yaml")
    with pytest.raises(ConfigError, match=r"cannot be read \(Is a directory"):
        load_config(tmp_path)


def test_one_mapping_may_be_merged_into_another(tmp_path: Path) -> None:
    text = (
        "run_dir: run\ndata:\n  detection:\n    train: &split {images: images, annotations: a.json}\n"
        "    test: {<<: *split, annotations: b.json}\n"
    )
    data = load_config(written(tmp_path, text)).data.detection
    assert data.test == (CocoSplit(images=data.train[0].images, annotations=tmp_path / "b.json"),)


def test_paths_start_at_the_configs_folder(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    images = {"images": "images", "annotations": "/data/train.json"}
    write_config(
        tmp_path / "experiments/mine/a.yaml", run_dir="../../runs", data={"detection": {"train": images}}
    )
    config = load_config("../experiments/mine/a.yaml")
    assert config.run_dir == tmp_path / "runs"
    assert config.search_dir == tmp_path / "runs/search"
    (train,) = config.data.detection.train
    assert train.images == tmp_path / "experiments/mine/images"
    assert train.annotations == Path("/data/train.json")


def test_a_path_takes_variables_from_the_environment(
    write_config: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETNAS_TEST_SETS", "/sets")
    path = write_config(tmp_path / "a.yaml", run_dir="${DETNAS_TEST_SETS}/${DETNAS_TEST_RUN}")
    with pytest.raises(
        ConfigError, match=r"a\.yaml: run_dir: the environment variable DETNAS_TEST_RUN is not"
    ):
        load_config(path)
    monkeypatch.setenv("DETNAS_TEST_RUN", "mine")
    assert load_config(path).run_dir == Path("/sets/mine")


def test_an_override_changes_one_value_and_is_read_as_yaml(write_config: Write, tmp_path: Path) -> None:
    path = write_config(tmp_path / "a.yaml")
    overrides = ["search.population=20", "search.constraint.max_macs=5", "finetune.lr=1e-4", "run_dir=other"]
    config = load_config(path, [*overrides, "finetune.milestones=[1, 2]", "search.population=21"])
    assert (config.search.population, config.search.constraint.max_macs) == (21, 5)
    assert (config.finetune.lr, config.finetune.milestones) == (1e-4, (1, 2))
    assert config.run_dir == tmp_path / "other"
    assert config.finetune.steps == load_config(path).finetune.steps


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.population", "override 'search.population': expected section.key=value"),
        ("seed.of=1", "override 'seed.of=1': `seed` is not a section"),
        ("extends=b.yaml", "^override 'extends=b.yaml': .* write `extends` into the file$"),
        ("seed=[", r"override 'seed=\[': "),
        ("seed=2020-99-99", "override 'seed=2020-99-99': month must be in"),
        ("serch.population=1", r"a\.yaml: serch: unknown key"),
        ("search.population=0", r"a\.yaml: search\.population: .*greater than or equal to 1, got 0"),
    ],
)
def test_an_override_that_does_not_fit_is_refused(
    write_config: Write, tmp_path: Path, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config(write_config(tmp_path / "a.yaml"), [override])


def test_the_splits_have_the_keys_of_their_format(refused: Callable[..., str], tmp_path: Path) -> None:
    message = refused(data={"detection": {"format": "voc"}})
    assert message == "data.detection: format is voc, so `train` needs the keys root"
    voc = {"root": "/voc", "image_set": "train", "images": None, "annotations": None}
    message = refused(data={"detection": {"test": voc}})
    assert message == "data.detection: format is coco, so `test` needs the keys images, annotations"


def test_a_voc_split_is_read(write_config: Write, tmp_path: Path) -> None:
    voc = {"root": "VOC2007", "image_set": "trainval", "images": None, "annotations": None}
    detection = {"format": "voc", "train": voc, "search": None, "test": None}
    config = load_config(write_config(tmp_path / "a.yaml", data={"detection": detection}))
    assert config.data.detection.train == (VocSplit(root=tmp_path / "VOC2007", image_set="trainval"),)


def test_a_split_may_be_a_list_of_sources(write_config: Write, tmp_path: Path) -> None:
    years = [{"root": year, "image_set": "trainval", "one_based": True} for year in ("2007", "2012")]
    detection = {"format": "voc", "train": years, "search": None, "test": years[:1]}
    data = load_config(write_config(tmp_path / "a.yaml", data={"detection": detection})).data.detection
    assert [source.root for source in data.train] == [tmp_path / "2007", tmp_path / "2012"]
    assert all(source.one_based for source in data.train)
    assert data.test == data.train[:1] and data.search is None


COCO = {"images": "images", "annotations": "a.json"}


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ([], "data.detection.train: needs at least one source, got []"),
        (["a.json"], "data.detection.train.0: Input should be an object, got 'a.json'"),
        ([[COCO]], "data.detection.train.0: Input should be an object, got [{'images': 'images', "),
        ([COCO, {"images": "images"}], "data.detection.train.1.annotations: missing; it has no default"),
        (
            [COCO, {**COCO, "anotations": "x"}],
            "data.detection.train.1.anotations: unknown key; known here: annotations, images",
        ),
        (
            [COCO, {"root": "VOC", "image_set": "train", "images": "x"}],
            "data.detection.train.1.images: unknown key; known here: backgrounds, image_set, one_based, root",
        ),
        (
            [COCO, {"root": "VOC", "image_set": "train"}],
            "data.detection: format is coco, so `train` needs the keys images, annotations",
        ),
    ],
)
def test_a_mistake_in_a_list_of_sources_is_one_line_that_names_the_source(
    refused: Callable[..., str], train: list, message: str
) -> None:
    line = refused(data={"detection": {"train": train}})
    assert line.startswith(message) and "\n" not in line


def test_a_training_from_scratch_takes_no_weights(
    refused: Callable[..., str], make_config: Callable[..., Config], tmp_path: Path
) -> None:
    message = refused(finetune={"init": "scratch", "weights": "imagenet.pt"})
    assert message.startswith("finetune: init is scratch, but weights names a checkpoint to start from")
    config = make_config(tmp_path, finetune={"weights": "/weights/imagenet.pt"})
    assert config.finetune.weights == Path("/weights/imagenet.pt")


def test_what_an_experiment_reproduces_is_read(write_config: Write, tmp_path: Path) -> None:
    reproduces = {
        "what": "DetNASNet against random nets",
        "steps": ["pretrain", "finetune", "search", "sample", "retrain"],
        "samples": 5,
        "published": {"AP": 36.4, "top1_error": 26.2},
    }
    config = load_config(write_config(tmp_path / "a.yaml", reproduces=reproduces))
    assert config.reproduces.steps == ("pretrain", "finetune", "search", "sample", "retrain")
    assert (config.reproduces.samples, config.reproduces.published["AP"]) == (5, 36.4)
    given = {"what": "a published net", "steps": ["retrain"], "architectures": ["nets/fpn.json"]}
    config = load_config(write_config(tmp_path / "b.yaml", reproduces=given))
    assert config.reproduces.architectures == (tmp_path / "nets/fpn.json",)


@pytest.mark.parametrize(
    ("reproduces", "message"),
    [
        (
            {"steps": ["search", "finetune"]},
            "reproduces: steps: each once, in the order pretrain, finetune, ",
        ),
        ({"steps": ["search", "search"]}, "reproduces: steps: each once, in the order pretrain, finetune, "),
        ({"steps": []}, "reproduces.steps: Tuple should have at least 1 item"),
        (
            {"steps": ["search", "fly"]},
            "reproduces.steps.1: Input should be 'pretrain', 'finetune', 'search'",
        ),
        ({"steps": ["sample"]}, "reproduces: samples is the number for the step `sample`: give both or none"),
        (
            {"steps": ["search"], "samples": 5},
            "reproduces: samples is the number for the step `sample`: give",
        ),
        (
            {"steps": ["sample"], "samples": 0},
            "reproduces.samples: Input should be greater than or equal to 1",
        ),
        (
            {"steps": ["pretrain", "retrain"]},
            "reproduces: `retrain` without a search or a sample needs `architectures`",
        ),
        ({"steps": ["search"], "what": None}, "reproduces.what: "),
        (
            {"steps": ["search"], "step": 1},
            "reproduces.step: unknown key; known here: architectures, published, samples, steps, what",
        ),
    ],
)
def test_what_cannot_be_reproduced_is_refused(
    refused: Callable[..., str], reproduces: dict, message: str
) -> None:
    assert refused(reproduces={"what": "something", **reproduces}).startswith(message)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"evaluation": {"metric": "voc12"}}, "evaluation.metric: Input should be 'coco', 'voc07' or 'voc'"),
        ({"data": {"max_images": 0}}, "data.max_images: Input should be greater than or equal to 1, got 0"),
    ],
)
def test_a_choice_that_is_not_offered_is_refused(
    refused: Callable[..., str], sections: dict, message: str
) -> None:
    assert refused(**sections).startswith(message)


def test_a_fingerprint_changes_with_what_it_is_of_and_with_nothing_else(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    def fingerprint(others: dict | None = None, **sections: object) -> str:
        config = make_config(**{"run_dir": tmp_path, **sections})
        return config.fingerprint("seed", "finetune", data=config.data.detection, **others or {})

    first = fingerprint()
    assert first == fingerprint() == fingerprint(pretrain={"lr": 0.3}, run_dir=tmp_path / "other")
    assert first == fingerprint(finetune={"log_every": 7, "checkpoint_every": 3})
    assert first == fingerprint(data={"max_bad_images": 3})
    assert first != fingerprint(seed=1)
    assert first != fingerprint(finetune={"lr": 0.3})
    assert first != fingerprint(data={"detection": {"flip": 0.0}})
    assert first != fingerprint(data={"max_images": 5})
    assert first != fingerprint(others={"start": "supernet"})


def test_a_fingerprint_is_that_of_before_a_key_was_there_where_the_key_changes_nothing() -> None:
    data = {"detection": {"train": {"images": "images", "annotations": "train.json"}}}

    def fingerprint(**finetune: object) -> str:
        config = parse_config({"run_dir": "run", "data": data, "finetune": finetune})
        return config.fingerprint("seed", "space", "finetune")

    # What the folders of trainings hold that were made before these keys were there.
    assert fingerprint() == fingerprint(sampling="uniform", average_last=None, freeze=0) == "767f3d6135477765"
    assert fingerprint(sampling="balanced") != fingerprint() != fingerprint(average_last=2)
    assert fingerprint(freeze=1) not in (fingerprint(), fingerprint(freeze=2))


def test_a_config_cannot_be_changed(make_config: Callable[..., Config], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        make_config(tmp_path).seed = 3


def test_what_is_written_out_is_read_again_as_the_same(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    config = make_config(tmp_path)
    path = written(tmp_path, yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config


def test_a_final_nets_training_says_what_differs_from_the_supernets(
    write_config: Write, tmp_path: Path
) -> None:
    file = write_config(tmp_path / "detnas.yaml", retrain={"finetune": {"steps": 9}})
    config = load_config(file)
    assert parse_config(yaml.safe_load(file.read_text()), folder=tmp_path) == config
    assert config.retrain.finetune.steps == 9
    assert config.retrain.finetune.model_copy(update={"steps": config.finetune.steps}) == config.finetune
    assert config.retrain.pretrain is None


def test_a_mistake_in_a_training_is_told_once_where_the_final_nets_has_it_too(
    refused: Callable[..., str],
) -> None:
    final = {"finetune": {"steps": 3, "gamma": 2}}
    for mistake in ({"around": "1,2,x"}, {"lr": -1}, {"rate": 1}, {"init": "scratch", "weights": "x.pt"}):
        lines = refused(finetune=mistake, retrain=final).splitlines()
        assert [line.count("retrain.finetune.gamma: ") for line in lines] == [0, 1]
    lines = refused(finetune={"lr": -1}, retrain={"finetune": {"lr": -2}}).splitlines()
    assert [line[-2:] for line in lines] == ["-1", "-2"]


def test_ops_may_be_a_list_or_text_or_the_number_of_a_single_block(
    make_config: Callable[..., Config], tmp_path: Path
) -> None:
    for given, ops in (([1, 0], (1, 0)), ("1, 0", (1, 0)), (3, (3,)), ("3", (3,))):
        for section in ("search", "finetune"):
            config = make_config(tmp_path, **{section: {"around": given}})
            assert getattr(config, section).around == ops


@pytest.mark.parametrize("given", ["net.json", "1,2,x", "", [], [1, -2], [1, "2"], [1, True], 1.5, True])
def test_what_are_no_ops_is_refused_in_one_line(refused: Callable[..., str], given: object) -> None:
    message = refused(search={"around": given})
    assert message.startswith("search.around: expected an architecture's ops, one whole number per block: ")
    assert message.endswith(f", got {given!r}") and "\n" not in message


def test_a_part_of_a_section_that_is_not_there_is_asked_for_by_its_whole_name(
    write_config: Write, tmp_path: Path
) -> None:
    config = load_config(write_config(tmp_path / "detnas.yaml", data={"detection": None}))
    with pytest.raises(ConfigError, match=r"no `data\.detection\.test`, which this step needs"):
        config.require("data.detection.test")


def test_keys_that_older_configs_lack_are_in_no_fingerprint_at_their_defaults(make_config, tmp_path):
    """What a run of an older version goes on by: only a key that is set makes it another run."""
    config = make_config(tmp_path)
    later = {"exif", "box_form", "box_units", "crowds", "copies", "strict", "backgrounds"}
    written = config.data.model_dump(mode="json")
    voc = VocSplit(root=tmp_path, image_set="train").model_dump(mode="json")
    assert not later & {*written, *written["detection"], *voc}
    assert voc == {"root": str(tmp_path), "image_set": "train", "one_based": False}
    sections = ("seed", "space", "data", "detector", "evaluation")
    for change in ({"detection": {"exif": "shown"}}, {"strict": True}, {"detection": {"box_form": "xyxy"}}):
        other = make_config(tmp_path, data=change)
        assert other.fingerprint(*sections) != config.fingerprint(*sections)
    same = make_config(tmp_path, data={"detection": {"exif": "auto"}, "strict": False})
    assert same.fingerprint(*sections) == config.fingerprint(*sections)
