"""What is made to do harm: it runs nothing, ends soon, and is refused with the reason."""

import io
import json
import os
import pickle
import struct
import sys
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from detnas_nni.architecture import Architecture
from detnas_nni.config import Config
from detnas_nni.config.reading import load_config
from detnas_nni.data.coco import read_coco
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import ArchitectureError, CheckpointError, ConfigError, DataError
from detnas_nni.evaluation.candidate import is_single_net
from detnas_nni.reference import import_reference
from detnas_nni.supernet.steps import pretrain
from detnas_nni.training.runs import CheckpointFolder
from detnas_nni.training.weights import WeightsInfo, load_weights, save_weights
from search_spaces import layout
from tests.test_reference import authors_state, no_draw

GIGABYTES = 3 * 2**30

TRUNK = """
from pathlib import Path
from collections import OrderedDict
from nni.nas.nn.pytorch import LayerChoice
from torch import nn
Path({mark!r}).touch()
class Trunk(nn.Module):
    out_channels = OrderedDict(a=3)
    def __init__(self):
        super().__init__()
        self.a = LayerChoice([nn.Identity(), nn.Identity()], label="a")
"""


@contextmanager
def soon(seconds: float = 5) -> Iterator[None]:
    """Of the processor's time, since a machine may be busy."""
    started = time.process_time()
    yield
    assert time.process_time() - started < seconds


@pytest.fixture
def mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is there when somebody has imported `stranger`, a module that can be."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules/stranger.py").write_text(TRUNK.format(mark=str(tmp_path / "mark")))
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.delitem(sys.modules, "stranger", raising=False)
    layout.cache_clear()  # of what another test has imported
    return tmp_path / "mark"


# Code.


def test_an_architecture_file_gets_no_code_imported(tmp_path: Path, mark: Path) -> None:
    file = tmp_path / "best.json"
    for rest in ({"ops": [0]}, {"choices": {"a": 0}}, {"ops": []}, {}):
        file.write_text(json.dumps({"format": 1, "space": "stranger:Trunk", **rest}))
        with pytest.raises(
            ArchitectureError, match=r"best\.json: key 'space' is 'stranger:Trunk', .*--space"
        ):
            Architecture.from_json(file)
        with pytest.raises(ArchitectureError):
            Architecture.from_json(file, trusted=["stranger:Other", "tiny"])
    assert not mark.exists()


def test_a_space_of_ones_own_is_read_where_it_is_named(tmp_path: Path, mark: Path) -> None:
    file = tmp_path / "best.json"
    file.write_text(json.dumps({"format": 1, "space": "stranger:Trunk", "ops": [1]}))
    assert Architecture.from_json(file, trusted=["stranger:Trunk"]).choices == {"a": 1}
    assert mark.exists()


def test_a_file_of_weights_gets_no_code_imported(tmp_path: Path, mark: Path) -> None:
    file = tmp_path / "net.pt"
    info = WeightsInfo("classifier", "stranger:Trunk", {}, ("cat",), 1, 0, "0" * 16, "trunk.", ops=(1,))
    save_weights(file, info, {"fc": torch.ones(1)})
    weights = load_weights(file)
    assert is_single_net(file)
    for check, message in (
        (lambda: weights.expect(space="tiny"), "whose space is 'stranger:Trunk'"),
        (lambda: weights.expect_supernet(space="stranger:Trunk"), "the single net 1; a supernet's"),
        (lambda: weights.expect_single(Architecture("resnet50", ())), "the architecture 1 of stranger:Trunk"),
    ):
        with pytest.raises(CheckpointError, match=message):
            check()
    assert not mark.exists()
    assert weights.info.architecture.choices == {"a": 1}  # what a caller does whose config has that space
    assert mark.exists()


class Bomb:
    """Makes a folder where it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_file_of_weights_is_not_run(tmp_path: Path, zipped: bool) -> None:
    path, folder = tmp_path / "bomb.pt", tmp_path / "made"
    torch.save({"state": Bomb(folder)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"bomb\.pt: cannot be read as a checkpoint"):
        load_weights(path)
    assert not folder.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_the_authors_checkpoint_is_not_run(tmp_path: Path, zipped: bool) -> None:
    file, made = tmp_path / "released.pkl", tmp_path / "made"
    torch.save({"state_dict": Bomb(made)}, file, _use_new_zipfile_serialization=zipped)
    with pytest.raises(CheckpointError, match=r"cannot be read as tensors \(it calls posix\.mkdir"):
        import_reference(file, tmp_path / "out.pt")
    assert not made.exists()


def test_code_in_the_state_of_a_training_is_not_run(scratch: Callable[..., Config], tmp_path: Path) -> None:
    config, made = scratch(), tmp_path / "made"
    folder = pretrain_folder(config)
    CheckpointFolder(folder / "checkpoints").save(
        1, lambda path: torch.save({"global_step": 1, "loops": Bomb(made)}, path), keep=1
    )
    with pytest.raises(CheckpointError, match=r"\.ckpt: cannot be read as a checkpoint: it calls posix"):
        pretrain(config)
    assert not made.exists()


def pretrain_folder(config: Config) -> Path:
    """The folder of a pre-training that this config has begun."""
    from detnas_nni.training.runs import pretrain_run

    run = pretrain_run(config)
    run.folder.mkdir(parents=True)
    (run.folder / "training.json").write_text(json.dumps({"fingerprint": run.fingerprint}))
    return run.folder


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [made]", "!!python/name:os.system", "!x y"])
def test_a_tag_of_yaml_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tag: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert "could not determine a constructor" in refused(tmp_path, f"run_dir: run\ndata: {{}}\nseed: {tag}")
    assert not (tmp_path / "made").exists()


# Memory and time: configs.


def refused(folder: Path, text: str) -> str:
    file = folder / "detnas.yaml"
    file.write_text(text)
    with soon(), pytest.raises(ConfigError) as raised:
        load_config(file)
    assert len(str(raised.value)) < 20_000
    return str(raised.value)


def test_aliases_that_multiply_values_are_refused(tmp_path: Path) -> None:
    lists = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 40)]
    text = "\n".join(["a0: &a0 [laugh]", *lists])
    assert "more than 10000 values, with aliases written out" in refused(tmp_path, text)


def test_merges_that_multiply_keys_are_refused(tmp_path: Path) -> None:
    mappings = [f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}" for n in range(1, 60)]
    text = "\n".join(["a0: &a0 {laugh: 1}", *mappings])
    assert "more than 10000 values, with aliases written out" in refused(tmp_path, text)


def test_aliases_may_still_save_writing(tmp_path: Path) -> None:
    file = tmp_path / "detnas.yaml"
    file.write_text("run_dir: run\ndata: {}\npretrain: &t {steps: 7}\nfinetune: {<<: *t, milestones: [3]}")
    config = load_config(file)
    assert (config.pretrain.steps, config.finetune.steps) == (7, 7)


def test_a_chain_of_aliases_deeper_than_python_goes_is_refused(tmp_path: Path) -> None:
    chain = [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 5000)]
    assert "more than 10000 values" in refused(tmp_path, "\n".join(["a0: &a0 [x]", *chain]))


def test_files_that_extend_each_other_without_end_are_refused(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number}.yaml").write_text(f"extends: [{number + 1}.yaml, {number + 1}.yaml]\n")
    (tmp_path / "40.yaml").write_text("seed: 1\n")
    assert "more than 20 files are extended in all" in refused(tmp_path, "extends: 0.yaml")


@pytest.mark.parametrize(
    "number",
    ["1" + ":59" * 100_000, "1" + ":1" * 900 + ".5", "0x" + "f" * 100_000, "9" * 5000],
    ids=["base 60", "base 60 with a fraction", "base 16", "base 10"],
)
def test_a_number_of_thousands_of_digits_is_refused(tmp_path: Path, number: str) -> None:
    for key in ("seed", "extends", "no_such_key"):
        assert "a number of" in refused(tmp_path, f"run_dir: run\ndata: {{}}\n{key}: {number}")


def test_tens_of_thousands_of_keys_or_values_are_refused(tmp_path: Path) -> None:
    assert "more than 10000 values" in refused(tmp_path, "\n".join(f"k{n}:" for n in range(50_000)))
    assert "more than 10000 values" in refused(tmp_path, f"a: [{'a,' * 100_000}]")


def test_of_thousands_of_mistakes_some_are_told(tmp_path: Path) -> None:
    text = "run_dir: run\ndata: {}\n" + "\n".join(f"k{n}: {'x' * 90}" for n in range(4000))
    lines = refused(tmp_path, text).splitlines()
    assert len(lines) == 21 and lines[-1].endswith("and 3980 more mistakes")


@pytest.mark.parametrize("path", ['"a\\0b"', '"\\ud800"'])
def test_a_path_that_no_file_could_have_is_refused(tmp_path: Path, path: str) -> None:
    for text in (f"run_dir: {path}\ndata: {{}}", f"extends: {path}", f"{path}: 1"):
        assert "has a NUL or half of a surrogate pair in it" in refused(tmp_path, text)


def test_the_home_folder_of_nobody_is_refused_with_the_key(tmp_path: Path) -> None:
    message = refused(tmp_path, "run_dir: ~nobody-of-this-name/x\ndata: {}")
    assert "run_dir: there is no such home folder, got '~nobody-of-this-name/x'" in message


def test_what_is_no_file_is_not_extended(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero", ".", "x" * 5000):
        assert "is not a file" in refused(tmp_path, f"extends: {name}")


# Memory and time: data sets.


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "JPEGImages/a.jpg").touch()
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\n")
    return tmp_path


def enlarged(file: Path) -> Path:
    """A file of gigabytes, none of which is on the disk."""
    file.touch()
    os.truncate(file, GIGABYTES)
    return file


@pytest.mark.parametrize("place", ["Annotations/a.xml", "ImageSets/Main/train.txt"])
def test_a_voc_file_of_gigabytes_is_refused_before_it_is_read(voc: Path, place: str) -> None:
    enlarged(voc / place)
    with soon(1), pytest.raises(DataError, match=r"it has 3,221,225,472 bytes, more than 10+,?0+"):
        read_voc(voc, "train")


@pytest.mark.parametrize("place", ["Annotations/a.xml", "ImageSets/Main/train.txt"])
def test_a_pipe_among_voc_files_is_not_waited_for(voc: Path, place: str) -> None:
    (voc / place).unlink(missing_ok=True)
    os.mkfifo(voc / place)
    with pytest.raises(DataError, match=r"cannot be read \(it is no file"):
        read_voc(voc, "train")


@pytest.mark.parametrize("link", ["a\0b", "..", "/etc", "x" * 5000, "a\nb"])
def test_a_link_that_is_a_text_leads_nowhere_else(voc: Path, link: str) -> None:
    (voc / "JPEGImages/a.jpg").unlink()
    (voc / "JPEGImages").rmdir()
    (voc / "JPEGImages").write_text(link)
    (voc / "Annotations/a.xml").write_text("<annotation><filename>a.jpg</filename></annotation>")
    with pytest.raises(DataError, match="the folder cannot be read"):
        read_voc(voc, "train")


def test_forty_thousand_objects_of_as_many_names_do_not_take_long(voc: Path) -> None:
    objects = "".join(f"<object><name>n{n}</name><difficult>2</difficult></object>" for n in range(40_000))
    size = "<size><width>4</width><height>3</height></size>"
    (voc / "Annotations/a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    with soon(), pytest.raises(DataError, match="40000 problems in all"):
        read_voc(voc, "train", classes=["n1"])


@pytest.mark.parametrize("annotations", ["/dev/zero", "large.json"])
def test_a_coco_file_without_end_is_refused_before_it_is_read(tmp_path: Path, annotations: str) -> None:
    enlarged(tmp_path / "large.json")
    with soon(1), pytest.raises(DataError, match=r"cannot be read \(it (is no file|has 3,221,225,472 bytes)"):
        read_coco(tmp_path, tmp_path / annotations)


def test_forty_thousand_categories_do_not_take_long(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    numbers = range(40_000)
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 4, "height": 3}],
        "annotations": [{"id": n, "image_id": 1, "category_id": -1, "bbox": [0, 0, 1, 1]} for n in numbers],
        "categories": [{"id": n, "name": f"name {n}"} for n in numbers],
    }
    (tmp_path / "train.json").write_text(json.dumps(content))
    with soon(), pytest.raises(DataError, match="40000 problems in all"):
        read_coco(tmp_path, tmp_path / "train.json")


# Memory and time: checkpoints. `}` is a dict, `X` a key of a given length, `s` puts a value under it.


def key(text: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text


def archive(file: Path, header: bytes, compression: int = zipfile.ZIP_STORED) -> Path:
    """What `torch.save` leaves, around a header of any kind."""
    with zipfile.ZipFile(file, "w", compression) as new:
        new.writestr("a/data.pkl", b"\x80\x02" + header + b".")
        new.writestr("a/version", "3\n")
        new.writestr("a/byteorder", "little")
    return file


def shared_tuples(depth: int) -> bytes:
    """A tuple of two times the same tuple of two times the same … `depth` deep."""
    level = b"q\x00h\x00\x86"
    return b")" + level * depth


BYTEARRAY = b"cbuiltins\nbytearray\n" + b"J" + struct.pack("<i", 2_000_000_000) + b"\x85R"
EXPANDED = b"ctorch._utils\n_rebuild_device_tensor_from_cpu_tensor\n)R"

HOSTILE = {
    "compressed": (b"}" + key(b"x" * 50_000_000) + b"Ns", zipfile.ZIP_DEFLATED, "is compressed"),
    "a function that makes bytes": (b"}" + key(b"a") + BYTEARRAY + b"s", 0, r"it calls builtins\.bytearray"),
    "a function that copies": (
        b"}" + key(b"a") + EXPANDED + b"s",
        0,
        r"it calls torch\._utils\._rebuild_dev",
    ),
    "a key that takes years to hash": (b"}" + shared_tuples(60) + b"Ns", 0, "tuples in it are shared"),
    "kept again": (b"}" + shared_tuples(60).replace(b"q\x00", b"q\x00q\x01") + b"Ns", 0, "are shared"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("reader", [load_weights, lambda file: import_reference(file, file.with_name("out"))])
def test_a_checkpoint_that_would_take_gigabytes_or_years_is_refused(
    tmp_path: Path, name: str, reader: Callable[[Path], Any]
) -> None:
    header, compression, message = HOSTILE[name]
    file = archive(tmp_path / "net.pt", header, compression)
    with soon(2), pytest.raises(CheckpointError, match=message) as raised:
        reader(file)
    assert str(raised.value).startswith(f"{file}: cannot be read as ")


def test_an_honest_checkpoint_is_read_in_either_format(tmp_path: Path) -> None:
    """The look into it must not refuse what trainings write: optimisers, counters, nested plain values."""
    shared = (0.9, 0.999)
    content = {
        "state": {"a": torch.ones(2), "b": torch.nn.Parameter(torch.ones(2)), "c": torch.ones(2).half()},
        "groups": [{"betas": shared, "params": [0]}, {"betas": shared, "params": [1]}],
        "loops": {"fit": {"total": 3, "done": None, "size": torch.Size((1, 2)), "flag": True}},
    }
    from detnas_nni.training.tensors import expect_tensors_alone

    for zipped in (True, False):
        torch.save(content, tmp_path / "a.pt", _use_new_zipfile_serialization=zipped)
        expect_tensors_alone(tmp_path / "a.pt")


def test_weights_that_are_no_tensors_are_refused_by_their_name(tmp_path: Path) -> None:
    info = WeightsInfo("classifier", "tiny", {}, ("cat",), 1, 0, "0" * 16, "trunk.")
    for state, message in (
        ({"fc": [1]}, "'fc' in it is list, not a tensor"),
        ({3: torch.ones(1)}, "3 in it is Tensor, not a tensor"),
    ):
        save_weights(tmp_path / "net.pt", info, state)
        with pytest.raises(CheckpointError, match=message):
            load_weights(tmp_path / "net.pt")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", ["classifier"]),
        ("space", torch.ones(2)),
        ("options", [("a", 1)]),
        ("classes", torch.ones(()).expand(10**12)),
        ("classes", "cat"),
        ("classes", [1]),
        ("steps", True),
        ("fingerprint", None),
        ("trunk_prefix", 3),
        ("ops", [0.0] * 9),
        ("ops", [[0]] * 9),
    ],
)
def test_a_description_of_other_types_is_refused_with_the_field(
    tmp_path: Path, field: str, value: Any
) -> None:
    file = io.BytesIO()
    info = WeightsInfo("classifier", "tiny", {}, ("cat",), 1, 0, "0" * 16, "trunk.")
    save_weights(tmp_path / "net.pt", info, {})
    content = torch.load(tmp_path / "net.pt", weights_only=True)
    content["info"][field] = value
    torch.save(content, file)
    (tmp_path / "net.pt").write_bytes(file.getvalue())
    with pytest.raises(CheckpointError, match=f"the description of the weights is damaged: .?{field}"):
        load_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("options", ["tensor", {"a": [{"b": "tensor"}]}, {"a": {"tensor": 1}}])
def test_a_tensor_in_the_description_is_refused_and_not_compared(tmp_path: Path, options: Any) -> None:
    """It may be one number a trillion times, to be gone through, or to be compared to what a config says."""

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {filled(name): filled(item) for name, item in value.items()}
        return (
            [filled(item) for item in value] if isinstance(value, list) else huge if value == "tensor" else 1
        )

    huge = torch.ones(()).expand(10**6, 10**6)
    info = WeightsInfo("classifier", "tiny", filled(options), ("cat",), 1, 0, "0" * 16, "trunk.")
    content = {"format": 1, "info": vars(info), "state": {}}
    for damaged in (
        content,
        {**content, "info": huge},
        {**content, "format": huge},
        {**content, "state": huge},
    ):
        torch.save(damaged, tmp_path / "net.pt")
        with (
            soon(1),
            pytest.raises(CheckpointError, match=r"description of the weights is damaged|not a file of"),
        ):
            load_weights(tmp_path / "net.pt")


def test_options_that_hold_themselves_or_each_other_many_times_are_compared_soon(tmp_path: Path) -> None:
    circle: list[Any] = []
    circle.append(circle)
    shared: list[Any] = []
    for _ in range(100):
        shared = [shared, shared]
    info = WeightsInfo("classifier", "tiny", {"a": shared, "b": circle}, ("cat",), 1, 0, "0" * 16, "trunk.")
    torch.save({"format": 1, "info": vars(info), "state": {}}, tmp_path / "net.pt")
    weights = load_weights(tmp_path / "net.pt")
    for options in ({"a": [[], []], "b": [[[]]]}, {"a": shared[:1], "b": 1}, {}):
        with soon(1), pytest.raises(CheckpointError, match=r"whose options is .* but the config says"):
            weights.expect(options=options)


def test_a_class_each_for_a_trillion_rows_is_refused(tmp_path: Path) -> None:
    net = Architecture("tiny", (0,) * 9)
    state = authors_state("tiny", net.ops, no_draw)
    state["fc.fc.weight"] = torch.ones(()).expand(10**12, 256)
    torch.save(state, tmp_path / "released.pkl")
    with soon(1), pytest.raises(CheckpointError, match=r"fc\.fc\.weight has 1,000,000,000,000 rows"):
        import_reference(tmp_path / "released.pkl", tmp_path / "out.pt")


def test_a_header_that_is_another_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.pt").write_bytes(pickle.dumps({"format": 1}, protocol=5))
    with pytest.raises(CheckpointError, match="cannot be read as a checkpoint"):
        load_weights(tmp_path / "net.pt")
