"""The parsers of `detnas data convert`: one annotation file is mutated, in a folder of sound pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image

from detnas_nni.data.formats.convert import as_coco, read_dataset
from detnas_nni.data.formats.recognise import recognise
from detnas_nni.data.formats.source import Wishes
from tests.fuzz.documents import JSON, XML, YAML
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutation import Mutation, mutate_bytes

_SIZES = {"a.jpg": (40, 30), "b.png": (30, 40), "below/c.jpg": (20, 20), "../outside.jpg": (40, 30)}
_FRAMES = ("frame_000000.png", "frame_000001.png")

_LABELME = {
    "version": "5.5.0",
    "shapes": [
        {"label": "cat", "points": [[1, 2], [20, 25.5]], "group_id": 1, "shape_type": "rectangle"},
        {"label": "cat", "points": [[1, 2], [20, 2], [3, 25.5]], "group_id": 1, "shape_type": "polygon"},
        {"label": "dog", "points": [[10, 10], [12, 10]], "group_id": None, "shape_type": "circle"},
        {"label": "__ignore__", "points": [[10, 10], [12, 10], [5, 5]]},
    ],
    "imagePath": "..\\a.jpg",
    "imageHeight": 30,
    "imageWidth": 40,
}

_VIA_REGIONS = [
    {
        "shape_attributes": {"name": "rect", "x": 1, "y": 2, "width": 10, "height": 20},
        "region_attributes": {"type": "cat"},
    },
    {
        "shape_attributes": {"name": "polygon", "all_points_x": [1, 2, 9], "all_points_y": [1, 2, 9]},
        "region_attributes": {"type": {"dog": True}},
    },
    {
        "shape_attributes": {"name": "ellipse", "cx": 9, "cy": 9, "rx": 3, "ry": 4, "theta": 0.3},
        "region_attributes": {"type": "dog"},
    },
]
_VIA = {
    "a.jpg7": {"filename": "a.jpg", "size": 7, "regions": _VIA_REGIONS, "file_attributes": {}},
    "b.png7": {"filename": "b.png", "size": 7, "regions": {"0": _VIA_REGIONS[0]}},
}

_LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/0123abcd-a.jpg"},
        "annotations": [
            {
                "result": [
                    {
                        "value": {
                            "x": 1,
                            "y": 2,
                            "width": 30,
                            "height": 40,
                            "rotation": 9,
                            "rectanglelabels": ["cat"],
                        }
                    },
                    {"value": {"points": [[1, 2], [30, 40], [1, 40]], "polygonlabels": ["dog"]}},
                    {"value": {"x": 50, "y": 50, "radiusX": 3, "radiusY": 4, "ellipselabels": ["dog"]}},
                ]
            }
        ],
    },
    {"id": 2, "data": {"image": "/data/local-files/?d=below/c.jpg"}, "annotations": []},
]

_LVIS = {
    "images": [
        {
            "id": 5,
            "width": 40,
            "height": 30,
            "coco_url": "http://images.cocodataset.org/train2017/a.jpg",
            "neg_category_ids": [2],
            "not_exhaustive_category_ids": [],
        },
        {"id": 6, "width": 30, "height": 40, "file_name": "b.png", "not_exhaustive_category_ids": [3]},
    ],
    "annotations": [
        {"id": 1, "image_id": 5, "category_id": 3, "bbox": [1, 2, 10.5, 20], "area": 55.5},
        {"id": 2, "image_id": 6, "category_id": 2, "bbox": [1, 2, 10, 20], "area": 70, "iscrowd": 1},
    ],
    "categories": [{"id": 2, "name": "dog", "frequency": "r"}, {"id": 3, "name": "cat", "frequency": "f"}],
}

_CVAT = (
    "<annotations><version>1.1</version><meta><task><labels><label><name>cat</name></label></labels></task></meta>"
    '<image id="0" name="a.jpg" width="40" height="30" subset="Train">'
    '<box label="cat" xtl="1.5" ytl="2" xbr="20" ybr="25" rotation="30"/>'
    '<polygon label="dog" points="1,2;3,4;1,9"/><mask label="dog" left="1" top="2" width="3" height="4"/>'
    '<ellipse label="cat" cx="9" cy="9" rx="3" ry="4"/><points label="cat" points="1,2"/></image>'
    '<image id="1" name="below/c.jpg" width="20" height="20"/></annotations>'
)
_CVAT_VIDEO = (
    '<annotations><meta/><track id="0" label="cat">'
    '<box frame="0" outside="0" xtl="1" ytl="2" xbr="9" ybr="9"/><box frame="1" outside="1" xtl="1" ytl="2"/>'
    '</track><image name="a.jpg"><box label="cat" xtl="1" ytl="2" xbr="9" ybr="9"/></image></annotations>'
)

_YOLO = ("0 0.5 0.5 0.2 0.3\n1 0.1 0.1 0.2 0.2 0.9\n", "1 0.1 0.1 0.9 0.1 0.5 0.9\r\n", "0 1e-2 .5 1 1\n")
_INDEX = (
    "train: images\nval: below\nnames: [cat, dog]\n",
    "path: ../set\ntrain: [images, below]\ntest: list.txt\nnames: {0: cat, 1: dog}\nkpt_shape: [17, 3]\n",
)
_KITTI_REST = "1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
_KITTI = (
    f"Car 0.00 0 -1.58 1.5 2.0 20.5 25.0 {_KITTI_REST}\nDontCare -1 -1 -10 5 5 9 9 {_KITTI_REST}\n",
    f"Van 0.00 0 -1.58 1 2 20 25 {_KITTI_REST} 0.93\n",
)
_OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf\n"
    "a,xclick,/m/1,1,0.1,0.5,0.2,0.9,0,0,0\nb,xclick,/m/2,1,0,1,0,1,0,0,1\ngone,x,/m/1,1,0,1,0,1,0,0,0\n"
)
_VIA_CSV = (
    "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    'a.jpg,7,"{}",1,0,"{""name"":""rect"",""x"":1,""y"":2,""width"":3,""height"":4}","{""type"":""cat""}"\n'
    'b.png,7,"{}",0,0,"{}","{}"\n'
)


def _target(
    name: str, form: str, file: str, seeds: Sequence[bytes], mutate: Mutation, folder: Path, **others: str
) -> Target:
    """A data set whose `file` is mutated; `others` are the files beside it, with `__` for `/` and `.`."""
    root = folder / "set"
    for place, size in _SIZES.items():
        for picture in (root / place, root / "images" / Path(place).name):
            picture.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", size).save(picture)
    for frame in _FRAMES:
        Image.new("RGB", (20, 20)).save(root / frame)
    for place, text in others.items():
        beside = root / place.replace("__", ".").replace("_in_", "/")
        beside.parent.mkdir(parents=True, exist_ok=True)
        beside.write_text(text)
    (root / file).parent.mkdir(parents=True, exist_ok=True)

    def parse(data: bytes) -> None:
        (root / file).write_bytes(data)
        whole = "/" in file or len(data) % 2 == 0  # a folder's, or its only annotation file
        found = recognise(root if whole else root / file, form)
        dataset = read_dataset(
            found, Wishes(strict=len(data) % 5 == 0, backgrounds=(None, True, False)[len(data) % 3])
        )
        for pictures in dataset.splits.values():
            assert pictures
            for picture in pictures:
                assert picture.file.is_relative_to(root) and ".." not in picture.file.parts
                assert picture.file.is_file()
            written = json.dumps(as_coco(pictures, dataset.classes, root.absolute()), allow_nan=False)
            assert written.encode("ascii")
        note = [*dataset.note.remarks, *dataset.note.complaints]
        assert all(len(line) < 2_000 and line.encode("utf-8") for line in note)

    return Target(name, tuple(seeds), mutate, parse)


def _attributes(random: Random, data: bytes, other: bytes) -> bytes:
    """Other bytes, other elements, or another value of an attribute."""
    change = random.random()
    if change < 0.3:
        return mutate_bytes(random, data, other)
    if change < 0.4:
        return XML.mutate(random, data, other)
    text = data.decode("utf-8")
    places = list(re.finditer(r'="([^"]*)"', text))
    for place in sorted(
        random.sample(places, min(len(places), random.choice((1, 1, 2, 4)))), key=_from_behind
    ):
        value = str(random.choice((*XML.nasty, random.choice(places)[1])))
        text = f"{text[: place.start(1)]}{value.replace(chr(34), '')}{text[place.end(1) :]}"
    return text.encode("utf-8", "surrogatepass")


def _from_behind(match: re.Match[str]) -> int:
    return -match.start()


def _rows(random: Random, data: bytes, other: bytes) -> bytes:
    """Other bytes, or another word in a line."""
    if random.random() < 0.5:
        return mutate_bytes(random, data, other)
    words = re.split(rb"([ ,\r\n]+)", data)
    for _ in range(random.choice((1, 1, 2, 4))):
        value = random.choice((*_WORDS, *words))
        words[random.randrange(len(words))] = value
    return b"".join(words)


_WORDS = (
    *(b"", b"-1", b"2", b"1.0", b"1e400", b"1e-320", b"nan", b"inf", b"-inf", b"0x10", b"1_0", b"9" * 5000),
    *("٣".encode(), b"cat", b"\0", b"\xff", b'"', b"'", b"\xef\xbb\xbf", b"a" * 200_000, b"../../etc/passwd"),
    *(b"100000", b"-0", b"+1", b".", b"1.5.2", b"\xed\xa0\x80", "é".encode()),
)


def _json(content: Any) -> bytes:
    return json.dumps(content).encode()


def _text(*texts: str) -> list[bytes]:
    return [text.encode() for text in texts]


BUILDERS: dict[str, Callable[[Path], Target]] = {
    "YOLO labels": lambda folder: _target(
        *("YOLO labels", "yolo", "labels/a.txt", _text(*_YOLO), _rows, folder),
        classes__txt="cat\ndog\n",
        labels_in_b__txt="1 0.5 0.5 0.1 0.1\n",
    ),
    "YOLO index": lambda folder: _target(
        *("YOLO index", "yolo", "data.yaml", _text(*_INDEX), YAML.mutate, folder),
        labels_in_a__txt="1 0.5 0.5 0.1 0.1\n",
        list__txt="./images/b.png\n",
    ),
    "CVAT": lambda folder: _target(
        "CVAT", "cvat", "annotations.xml", _text(_CVAT, _CVAT_VIDEO), _attributes, folder
    ),
    "labelme": lambda folder: _target(
        "labelme", "labelme", "json/a.json", [_json(_LABELME)], JSON.mutate, folder
    ),
    "VIA": lambda folder: _target(
        *("VIA", "via", "via.json", [_json(_VIA), _json({"_via_img_metadata": _VIA})], JSON.mutate, folder)
    ),
    "VIA CSV": lambda folder: _target("VIA CSV", "via", "via.csv", _text(_VIA_CSV), _rows, folder),
    "Label Studio": lambda folder: _target(
        "Label Studio", "labelstudio", "export.json", [_json(_LABEL_STUDIO)], JSON.mutate, folder
    ),
    "KITTI": lambda folder: _target("KITTI", "kitti", "labels/a.txt", _text(*_KITTI), _rows, folder),
    "LVIS": lambda folder: _target("LVIS", "lvis", "lvis_train.json", [_json(_LVIS)], JSON.mutate, folder),
    "Open Images": lambda folder: _target(
        "Open Images", "openimages", "train-annotations-bbox.csv", _text(_OPEN_IMAGES), _rows, folder
    ),
}
"""The parsers by their names in the table."""
