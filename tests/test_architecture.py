"""An architecture's three notations agree, its file survives a round trip, and what does not fit is named."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnas_nni.architecture import MAX_FILE_BYTES, Architecture, parse_ops, read_document
from detnas_nni.errors import ArchitectureError

OPS = (2, 1, 0, 3, 1, 3, 0, 2, 1)


@pytest.fixture
def arch() -> Architecture:
    return Architecture.from_ops("tiny", OPS)


def test_ops_and_choices_say_the_same(arch: Architecture) -> None:
    assert arch.choices["layer_00"] == "shufflenet_7x7"
    assert arch.choices["layer_03"] == "xception_3x3"
    assert list(arch.choices) == [f"layer_{index:02d}" for index in range(9)]
    assert Architecture.from_choices("tiny", dict(reversed(arch.choices.items()))) == arch


def test_it_is_a_value(arch: Architecture) -> None:
    same = Architecture.from_ops("tiny", np.array(OPS).tolist())
    assert {arch, same, Architecture.from_ops("tiny", list(np.array(OPS)))} == {arch}
    assert all(type(op) is int for op in Architecture.from_ops("tiny", list(np.array(OPS))).ops)
    assert arch != Architecture("tiny", (0,) * 9)


def test_a_fixed_net_is_an_architecture_without_choices(tmp_path: Path) -> None:
    arch = Architecture("resnet50", ())
    assert arch.choices == {}
    arch.save(tmp_path / "resnet50.json")
    assert Architecture.from_json(tmp_path / "resnet50.json") == arch
    assert Architecture.from_choices("resnet50", {}) == Architecture.from_ops("resnet50", []) == arch
    with pytest.raises(ArchitectureError, match="'ops' has 1 values; space 'resnet50' has 0 blocks"):
        Architecture("resnet50", (0,))


def test_the_short_form_is_parsed_back(arch: Architecture) -> None:
    assert str(arch) == "2,1,0,3,1,3,0,2,1"
    assert parse_ops(str(arch)) == parse_ops(" 2, 1,0,3,1,3,0,2, 1 ") == OPS


@pytest.mark.parametrize("text", ["", "1,", "1;2", "1,-2", "1,1_0", "1,two"])
def test_what_is_no_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ArchitectureError, match="is not a number"):
        parse_ops(text)


def test_a_saved_file_keeps_everything_and_leaves_nothing_beside_it(
    arch: Architecture, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "best.json"
    arch.save(path, cost={"backbone_macs": 1}, metrics={"AP": 0.25}, provenance={"seed": 7})
    arch.save(path, cost={"backbone_macs": 2}, metrics={"AP": 0.25}, provenance={"seed": 7})
    assert [file.name for file in path.parent.iterdir()] == ["best.json"]
    assert Architecture.from_json(path) == arch
    document = read_document(path)
    assert list(document) == ["format", "space", "ops", "choices", "cost", "metrics", "provenance"]
    assert document["format"] == 1
    assert document["cost"] == {"backbone_macs": 2}
    assert document["metrics"] == {"AP": 0.25}
    assert document["provenance"] == {"seed": 7}
    assert Architecture.from_dict(document) == arch


def test_a_failed_write_leaves_the_old_file(arch: Architecture, tmp_path: Path) -> None:
    path = tmp_path / "best.json"
    arch.save(path)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        arch.save(path, metrics={"AP": object()})
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("absent", ["ops", "choices"])
def test_either_notation_is_enough(arch: Architecture, absent: str) -> None:
    document = arch.to_dict()
    del document[absent]
    assert Architecture.from_dict(document) == arch


def changed(document: dict[str, Any], **changes: Any) -> dict[str, Any]:
    choices = {**document["choices"], **changes.pop("in_choices", {})}
    return {**document, "choices": {k: v for k, v in choices.items() if v is not None}, **changes}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 2}, "key 'format' is 2, expected 1"),
        ({"format": None}, "key 'format' is None, expected 1"),
        ({"space": 3}, "key 'space' is 3"),
        ({"space": "medium"}, "key 'space': unknown search space 'medium'; known: tiny"),
        ({"ops": "2,1"}, "key 'ops' is '2,1', expected a list"),
        ({"ops": [0] * 8}, "key 'ops' has 8 values; space 'tiny' has 9 blocks"),
        ({"ops": [0] * 8 + [4]}, r"ops\[8\] is 4, expected 0 to 3"),
        ({"ops": [-1] + [0] * 8}, r"ops\[0\] is -1, expected 0 to 3"),
        ({"ops": [0.0] + [0] * 8}, r"ops\[0\] is 0.0, expected an integer"),
        ({"ops": [True] + [0] * 8}, r"ops\[0\] is True, expected an integer"),
        ({"ops": [2, 0, *OPS[2:]]}, "contradict in block 1: op 0 is 'shufflenet_3x3', but .*layer_01"),
        ({"choices": ["shufflenet_3x3"]}, "key 'choices' is .*expected an object"),
        ({"in_choices": {"layer_77": "xception_3x3"}}, "unknown label 'layer_77'"),
        ({"in_choices": {"layer_03": None}}, "choices lacks the label 'layer_03'"),
        ({"in_choices": {"layer_03": "conv_9x9"}}, r"choices\['layer_03'\] is 'conv_9x9', expected one of"),
        ({"in_choices": {"layer_03": ["xception_3x3"]}}, r"choices\['layer_03'\] is \['xception_3x3'\]"),
    ],
)
def test_a_document_that_does_not_fit_is_refused_by_file_key_and_value(
    arch: Architecture, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = tmp_path / "bad.json"
    path.write_text(json.dumps(changed(arch.to_dict(), **changes)))
    with pytest.raises(ArchitectureError, match=message) as raised:
        Architecture.from_json(path)
    assert str(raised.value).startswith(str(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b'{"format": 1', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[1, 2]", "is not a JSON object, but list"),
        (b'{"format": 1, "space": "tiny"}', "has neither 'ops' nor 'choices'"),
        (b" " * (MAX_FILE_BYTES + 1), "1,000,001 bytes; an architecture file has at most 1,000,000"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(ArchitectureError, match=message):
        Architecture.from_json(path)


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchitectureError, match=r"gone\.json: cannot be read"):
        Architecture.from_json(tmp_path / "gone.json")
    with pytest.raises(ArchitectureError, match="cannot be read"):
        Architecture.from_json(tmp_path)


def test_reading_an_architecture_and_its_cost_imports_neither_torch_nor_nni() -> None:
    program = (
        "import sys; from detnas_nni.architecture import Architecture\n"
        "from detnas_nni.cost.table import counts\n"
        "counts(Architecture('large', (0,) * 40))\n"
        "assert not {'torch', 'nni', 'numpy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[1])
