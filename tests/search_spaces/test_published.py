"""The published architectures as files: the authors' ops, and the numbers that they printed."""

import json
from pathlib import Path

import pytest

import search_spaces
from detnas_nni.architecture import Architecture, read_document

FOLDER = Path(search_spaces.__file__).parent / "published"
# The ops as megvii-model/DetNAS and megvii-model/ShuffleNet-Series configure them.
OPS = {
    "detnas-coco-fpn-300m": ("small", "21202112331300313132"),
    "detnas-coco-retinanet-300m": ("small", "23113213311133203333"),
    "detnas-voc-fpn-300m": ("small", "21031303201133333331"),
    "detnas-voc-retinanet-300m": ("small", "13002333233332202311"),
    "detnas-coco-fpn-1.3g": ("large", "0031210203123320211320222131033313333333"),
    "detnas-coco-fpn-3.8g": ("3.8g", "0031210203123320211320222131033313333333"),
    "shufflenetv2-20": ("small", "0" * 20),
    "shufflenetv2-40": ("large", "0" * 40),
    "resnet50": ("resnet50", ""),
    "resnet101": ("resnet101", ""),
    "efficientnet-lite0": ("lite0", "001100011111110"),
    "efficientnet-lite1": ("lite1", "00011100001111111110"),
    "efficientnet-lite2": ("lite2", "00011100001111111110"),
}


def test_every_published_net_has_its_file_and_there_is_no_other() -> None:
    assert {path.stem for path in FOLDER.glob("*.json")} == set(OPS)


@pytest.mark.parametrize("name", OPS)
def test_a_published_file_has_the_authors_ops(name: str) -> None:
    space, ops = OPS[name]
    assert Architecture.from_json(FOLDER / f"{name}.json") == Architecture(space, tuple(map(int, ops)))


@pytest.mark.parametrize("name", OPS)
def test_a_published_file_is_one_that_the_package_writes(name: str, tmp_path: Path) -> None:
    path = FOLDER / f"{name}.json"
    document = read_document(path)
    document = {key: document[key] for key in ("cost", "metrics", "provenance")}
    Architecture.from_json(path).save(tmp_path / "again.json", **document)
    assert (tmp_path / "again.json").read_text() == path.read_text()
    assert "arXiv" in json.dumps(document["provenance"])


def test_published_numbers_are_fractions_of_one() -> None:
    metrics = read_document(FOLDER / "detnas-coco-fpn-300m.json")["metrics"]
    assert metrics == {
        "published_AP": 0.364,
        "published_AP_reimplementation": 0.366,
        "published_top1_error": 0.262,
    }
    voc = read_document(FOLDER / "detnas-voc-retinanet-300m.json")["metrics"]
    assert voc == {"published_VOC_mAP": 0.801, "published_top1_error": 0.254}
    resnet = read_document(FOLDER / "resnet101.json")["metrics"]
    assert resnet == {"published_AP": 0.4, "published_top1_error": 0.226}
