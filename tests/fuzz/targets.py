"""The parsers of files that strangers send, each with inputs that it accepts."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from detnas_nni.architecture import Architecture
from detnas_nni.config.reading import load_config
from detnas_nni.cost.latency_table import read_latency_table
from detnas_nni.cost.table import cost_table
from detnas_nni.data.coco import read_coco
from detnas_nni.data.copies import group_numbers, read_groups
from detnas_nni.data.images import read_image
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import CheckpointError
from detnas_nni.reference import import_reference
from detnas_nni.search.journal import Evaluation, Journal
from detnas_nni.training.tensors import check_fit, load_tensors
from detnas_nni.training.weights import WeightsInfo, load_weights, save_weights
from search_spaces import SIZES, layout
from tests.cost.latencies import by_hand
from tests.fuzz import formats
from tests.fuzz.checkpoints import mutate_checkpoint, saved
from tests.fuzz.documents import JSON, XML, YAML
from tests.fuzz.fuzzing import Target
from tests.fuzz.mutation import mutate_bytes
from tests.test_reference import authors_state

REPOSITORY = Path(__file__).parents[2]
NET = Architecture("tiny", tuple(index % 4 for index in range(len(layout("tiny")))))


def config(folder: Path) -> Target:
    """A config's YAML, which may extend another; overrides are the user's own, and not a file's."""
    (folder / "base.yaml").write_text("run_dir: base\nsearch: {population: 40, parents: 3}\ndata: {}\n")
    file = folder / "input.yaml"
    seeds = [
        b"run_dir: run\ndata: {}\n",
        b"extends: base.yaml\nseed: 3\nspace: {name: tiny, options: {shuffle: even_odd}}\n",
        b"extends: [base.yaml]\nsearch: &s {parents: 4, name: a}\nfinetune: {lr: 1e-3, milestones: [3, 5]}\n",
        b"""
run_dir: run
data:
  max_bad_images: 3
  detection: {format: voc, train: [{root: a, image_set: t}, {root: b, image_set: t}], test: null}
  classification: {train: x, holdout: 12}
detector: {anchor_sizes: [8, 16, 24, 32, 48], anchor_ratios: [0.5, 1, 2.0], min_size: 64, max_size: 96}
""",
        b"""
run_dir: ../runs
seed: 7
data: {detection: {train: {images: i, annotations: a.json}, classes: [cat, dog], holdout: 5}}
pretrain: {steps: 4, macs_bins: [[1, 2], [2, 3]], max_grad_norm: 1.0}
search: {constraint: {max_macs: 300_000_000}}
reproduces: {what: a, steps: [search, retrain], published: {AP: 36.4}}
""",
    ]

    def parse(data: bytes) -> None:
        _put(file, data)
        found = load_config(file)
        found.fingerprint("seed", "space", "detector", "search", data=found.data)
        assert found.search_dir.is_relative_to(found.run_dir)
        written = found.model_dump_json()
        _put(file, written.encode())
        assert load_config(file).model_dump_json() == written

    return Target("config", tuple(seeds), YAML.mutate, parse)


def architecture(folder: Path) -> Target:
    """An architecture's JSON: those that are shipped, one with numbers of its own, one of a foreign space."""
    file = folder / "architecture.json"
    foreign = {
        "format": 1,
        "space": "foreign:mobile",
        "ops": [0, 2],
        "choices": {"low": "kernel_3", "high": 2},
    }
    numbers = NET.to_dict(cost={"macs": 1}, metrics={"default": 0.3}, provenance={"seed": 1})
    seeds = [path.read_bytes() for path in sorted((REPOSITORY / "search_spaces/published").glob("*.json"))]
    seeds += [json.dumps(document).encode() for document in (foreign, numbers)]

    def parse(data: bytes) -> None:
        _put(file, data)
        found = Architecture.from_json(file)
        assert Architecture.from_dict(found.to_dict()) == found
        assert len(found.ops) == len(layout(found.space))

    return Target("architecture", tuple(seeds), JSON.mutate, parse)


def coco(folder: Path) -> Target:
    """COCO's JSON, with images in a folder below and a file beside the folder that is none of theirs."""
    images, file = folder / "images", folder / "train.json"
    (images / "below").mkdir(parents=True)
    for name in ("a.png", "b.png", "below/c.png", "../outside.png"):
        (images / name).touch()
    entries = [("a.png", 1), ("./b.png", 7), ("below/c.png", 12)]
    content = {
        "info": {"year": 2017},
        "images": [{"id": i, "file_name": name, "width": 40, "height": 30.0} for name, i in entries],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 10, 20], "area": 150.5, "iscrowd": 0},
            {"id": 2, "image_id": 7, "category_id": 9, "bbox": [1.5, 2, 90, 20], "iscrowd": 1},
            {"id": 3, "image_id": 7, "category_id": 3, "bbox": [-1, -2, 10, 20]},
        ],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
    }
    minimal = {
        "images": [{"id": 0, "file_name": "a.png", "width": 1, "height": 1}],
        "annotations": [],
        "categories": [{"id": 0, "name": "a"}],
    }
    tools = {
        "images": [
            {"id": "0b9e-a", "file_name": "images\\a.PNG", "width": "40", "height": 30},
            {"id": 2**60, "coco_url": "http://x.org/%62.png", "width": 40, "height": 30},
        ],
        "annotations": [
            {"image_id": "0b9e-a", "category_id": "3", "bbox": ["1", "2", "-1", "9"]},
            {"image_id": 2**60, "category_id": 3.0, "segmentation": [[1, 2, 9, 2, 9, 9]], "ignore": 1},
            {"image_id": 2**60, "category_id": 3, "segmentation": {"size": [2, 3], "counts": "132"}},
            {"image_id": 2**60, "category_id": 3, "bbox": "[1, 2, 3, 4]", "is_crowd": "no"},
            {"image_id": 2**60, "category_id": 3, "bbox": [9, 9, 9, 9], "attributes": {"rotation": 30}},
        ],
        "categories": [
            {"id": 0, "name": "pets", "supercategory": "none"},
            {"id": "3", "name": "cat", "supercategory": "pets"},
        ],
    }
    seeds = [json.dumps(content).encode(), json.dumps(minimal, indent=1).encode(), json.dumps(tools).encode()]

    def parse(data: bytes) -> None:
        _put(file, data)
        _use(read_coco(images, file, max_bad=len(data) % 3), images)

    return Target("COCO", tuple(seeds), JSON.mutate, parse)


def voc_annotation(folder: Path) -> Target:
    """One image's XML in a set of three."""
    root = _voc(folder)
    file = root / "Annotations" / "b.xml"
    seeds = (file.read_bytes(), _xml("cat", "dog"), _xml())

    def parse(data: bytes) -> None:
        _put(file, data)
        _use(read_voc(root, "train", max_bad=len(data) % 3), root / "JPEGImages")

    return Target("VOC annotation", seeds, XML.mutate, parse)


def voc_folder(folder: Path) -> Target:
    """One XML file in a folder of pictures without lists, with what tools put beside a box."""
    root = folder / "set"
    root.mkdir(parents=True)
    for name in ("a", "b", "../outside"):
        Image.new("RGB", (40, 30)).save(root / f"{name}.png")
    (root / "b.xml").write_bytes(_xml("cat"))
    file = root / "a.xml"
    tools = (
        "<annotation><filename>a.png</filename><size><width>0</width></size>"
        "<object><name>cat</name><difficult>Unspecified</difficult><ignore>1</ignore>"
        "<robndbox><cx>9</cx><cy>9</cy><w>4</w><h>5</h><angle>0.5</angle></robndbox></object>"
        "<object><name>dog</name>"
        "<bndbox><xmin>30</xmin><ymin>0.5</ymin><xmax>2</xmax><ymax>9</ymax></bndbox>"
        "<attributes><attribute><name>rotation</name><value>30</value></attribute></attributes>"
        "</object></annotation>"
    )
    seeds = (tools.encode(), _xml("cat", "dog"))

    def parse(data: bytes) -> None:
        _put(file, data)
        _use(read_voc(root, max_bad=len(data) % 3, backgrounds=len(data) % 2 == 0), root)

    return Target("VOC folder", seeds, XML.mutate, parse)


def copies(folder: Path) -> Target:
    """Groups of images that are held out together."""
    file = folder / "copies.json"
    seeds = (b'{"groups": [["a.jpg", "x/b.jpg"], ["c.jpg"]]}', b'{"groups": []}')

    def parse(data: bytes) -> None:
        _put(file, data)
        groups = read_groups(file)
        group_numbers([Path("a.jpg"), Path("x/b.jpg"), Path("c.jpg")], groups)
        assert all(isinstance(name, str) for group in groups for name in group)

    return Target("copies", seeds, JSON.mutate, parse)


def voc_image_set(folder: Path) -> Target:
    """The list of the images' names."""
    root = _voc(folder)
    file = root / "ImageSets/Main/train.txt"
    seeds = (b"a\nb\nc\n", b"b\r\nc", b"below/d\n\na\n", b"../outside\n", b"/etc/passwd\na\n")

    def parse(data: bytes) -> None:
        _put(file, data)
        _use(read_voc(root, "train", max_bad=len(data) % 3), root / "JPEGImages")

    return Target("VOC image set", seeds, mutate_bytes, parse)


def _voc(folder: Path) -> Path:
    root = folder / "VOC"
    for name in ("Annotations/below", "JPEGImages/below", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    for name in ("a", "b", "c", "below/d", "../outside"):
        (root / "JPEGImages" / f"{name}.jpg").touch()
        (root / "Annotations" / f"{name}.xml").write_bytes(_xml("cat"))
    (root / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")
    return root


def _xml(*names: str) -> bytes:
    objects = (
        f"<object><name>{name}</name><pose>Left</pose><difficult>0</difficult>"
        f"<bndbox><xmin>1</xmin><ymin>2.5</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></object>"
        for name in names
    )
    return (
        '<?xml version="1.0"?>\n<annotation><folder>VOC</folder><filename>a.jpg</filename>'
        "<size><width>40</width><height>30</height><depth>3</depth></size>"
        f"{''.join(objects)}</annotation>\n"
    ).encode()


def _put(file: Path, data: bytes) -> None:
    # A new file each time: ext4 brings one that is cut to nothing and written again to the disk at once.
    file.unlink(missing_ok=True)
    file.write_bytes(data)


def _use(found: DetectionSet, folder: Path) -> None:
    """What a caller does with a set; no file of it may lie elsewhere."""
    json.dumps(found.ground_truth())
    for record in found.records:
        assert record.file.is_relative_to(folder) and ".." not in record.file.parts, record.file
        assert record.width > 0 and record.height > 0 and np.isfinite(record.area).all()
        assert (record.boxes >= 0).all() and (record.boxes[:, 2:] > record.boxes[:, :2]).all()
        assert ((record.labels >= 1) & (record.labels <= len(found.classes))).all()


def journal(folder: Path) -> Target:
    """A search's journal of three evaluations, one of which has failed."""
    file = folder / "journal.jsonl"
    whole = Journal(file)
    for number, fitness in enumerate((0.25, None, 1 / 3)):
        found = Architecture("tiny", (number,) * len(NET.ops))
        whole.append(
            Evaluation(
                id=number,
                ops=found.ops,
                choices=found.choices,
                cost={"macs": 17_000_000 + number, "params": 80_000},
                generation=0,
                origin="random",
                seconds=1.5,
                finished_at="2030-01-01T00:00:00+00:00",
                metrics=None if fitness is None else {"default": fitness, "AP50": 0.5},
                error="EvaluationError: out of memory" if fitness is None else None,
            )
        )
    seed = file.read_bytes()

    def parse(data: bytes) -> None:
        _put(file, data)
        found = Journal(file)
        found.best(2)
        found.find(NET.ops)
        assert Journal(file).evaluations == found.evaluations or b"NaN" in data

    return Target("journal", (seed, seed.splitlines(keepends=True)[0]), JSON.mutate_lines, parse)


def latency_table(folder: Path) -> Target:
    """A latency table, with its check and without."""
    file = folder / "latency.json"
    by_hand().save(file)
    seed = file.read_bytes()
    bare = {key: value for key, value in json.loads(seed).items() if key not in ("check", "passes")}

    def parse(data: bytes) -> None:
        _put(file, data)
        found = read_latency_table(file, space="tiny", options={})
        assert found.predict(NET.ops) == cost_table("tiny").with_latency(found).cost(NET).latency_us
        found.save(file)
        assert read_latency_table(file, space="tiny", options={}).fingerprint == found.fingerprint

    return Target("latency table", (seed, json.dumps(bare).encode()), JSON.mutate, parse)


def weights(folder: Path) -> Target:
    """Our own files of weights, a supernet's and a single net's, and what a training resumes from."""
    file = folder / "weights.pt"
    common = {"kind": "classifier", "classes": ("cat", "dog"), "steps": 2, "seed": 0, "fingerprint": "0" * 16}
    infos = [
        WeightsInfo(space="tiny", options={"shuffle": "even_odd"}, trunk_prefix="trunk.", **common),
        WeightsInfo(space="tiny", options={}, trunk_prefix="", ops=NET.ops, **common),
        WeightsInfo(
            space="foreign:mobile", options={"width": 8}, trunk_prefix="trunk.", ops=(0, 2), **common
        ),
    ]
    state = {"trunk.a": torch.arange(6.0).reshape(2, 3), "trunk.n": torch.tensor(3), "fc": torch.ones(2)}
    seeds = []
    for info in infos:
        save_weights(file, info, state)
        seeds.append(file.read_bytes())
    optimizer = {
        "state": {0: {"momentum_buffer": torch.ones(2)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    seeds.append(saved({"global_step": 2, "state_dict": state, "optimizer_states": [optimizer], "loops": {}}))
    seeds.append(saved({"format": 1, "info": asdict(infos[0]), "state": {"a": state["fc"]}}, zipped=False))
    net = torch.nn.Linear(2, 1)

    def parse(data: bytes) -> None:
        _put(file, data)
        with suppress(CheckpointError):
            assert isinstance(load_tensors(file), dict)
        found = load_weights(file)
        assert all(isinstance(tensor, torch.Tensor) for tensor in found.trunk_state.values())
        checks: Iterable[Callable[[], Any]] = (
            partial(found.expect_supernet, kind="classifier", space="tiny", options={}),
            partial(found.expect, options={"shuffle": 0.5}, classes=("a", "b")),
            partial(found.expect, kind="", seed=-1, steps=0, fingerprint="", trunk_prefix="x"),
            partial(found.expect_single, NET),
            partial(check_fit, net, found.state, file, "a net"),
        )
        for check in checks:
            with suppress(CheckpointError):
                check()

    return Target("weights", tuple(seeds), mutate_checkpoint, parse)


def reference(folder: Path) -> Target:
    """The authors' released weights, in both of torch's formats: every tensor a view of one number."""
    file, out = folder / "released.pkl", folder / "imported.pt"
    one = torch.ones(())

    def draw(*shape: int, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
        return one.expand(shape)

    state = {key: one.expand(tensor.shape) for key, tensor in authors_state("tiny", NET.ops, draw).items()}
    seeds = (saved(state), saved({"state_dict": state}), saved(state, zipped=False))

    def parse(data: bytes) -> None:
        _put(file, data)
        info = import_reference(file, out, shuffle="even_odd").info
        assert info.space in SIZES

    return Target("reference", seeds, mutate_checkpoint, parse)


def image(folder: Path) -> Target:
    """Images of 40x30 in every format that is read."""
    file = folder / "image"
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    seeds = []
    turned = Image.Exif()
    turned[0x0112] = 6
    plain, wide = Image.fromarray(pixels), Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    forms = [(plain, kind, {}) for kind in ("JPEG", "PNG", "BMP", "WEBP", "TIFF", "PPM", "GIF")]
    forms += [(plain, "JPEG", {"exif": turned}), (wide, "PNG", {}), (wide, "TIFF", {"exif": turned})]
    for picture, kind, options in forms:
        stream = io.BytesIO()
        picture.save(stream, kind, **options)
        seeds.append(stream.getvalue())

    def parse(data: bytes) -> None:
        _put(file, data)
        assert read_image(file, upright=len(data) % 2 == 0).shape[0] == 3

    return Target("image", tuple(seeds), mutate_bytes, parse)


_BUILDERS = {
    "config": config,
    "architecture": architecture,
    "COCO": coco,
    "VOC annotation": voc_annotation,
    "VOC image set": voc_image_set,
    "VOC folder": voc_folder,
    "copies": copies,
    "journal": journal,
    "latency table": latency_table,
    "weights": weights,
    "reference": reference,
    "image": image,
    **formats.BUILDERS,
}

NAMES = tuple(_BUILDERS)
"""The parsers, in the order of the table."""


def build(name: str, folder: Path) -> Target:
    """The parser of that name, in an empty folder of its own below `folder`."""
    place = folder / name.replace(" ", "-")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return _BUILDERS[name](place)
