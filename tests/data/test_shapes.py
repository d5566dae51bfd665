"""The practice set: the same bytes for the same seed, boxes that fit, safe to run twice."""

import hashlib
import json

import numpy as np
import pytest

from detnas_nni.data.coco import read_coco
from detnas_nni.data.drawing import SHAPES, draw_scene
from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.data.records import check_disjoint
from detnas_nni.data.shapes import generate_shapes
from detnas_nni.errors import DataError, UsageError

SMALL = {
    "classification_train": 24,
    "classification_val": 12,
    "detection_train": 12,
    "detection_search": 6,
    "detection_test": 6,
}


def digests(root) -> dict[str, str]:
    files = sorted(file for file in root.rglob("*") if file.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def test_the_readers_take_the_set(tmp_path):
    assert generate_shapes(tmp_path / "shapes", **SMALL)
    root = tmp_path / "shapes"
    train = read_image_folder(root / "classification" / "train")
    val = read_image_folder(root / "classification" / "val", classes=train.classes)
    assert (len(train), len(val)) == (24, 12)
    assert np.bincount(train.labels).tolist() == [4] * 6
    splits = []
    for name, count in (("train", 12), ("search", 6), ("test", 6)):
        split = read_coco(root / "detection" / name, root / "detection" / f"{name}.json")
        assert len(split) == count and not split.dropped
        assert split.classes == SHAPES[:6]
        assert all(1 <= len(record.boxes) <= 5 for record in split.records)
        assert all(96 <= side <= 128 for record in split.records for side in (record.width, record.height))
        splits.append(split)
    ids = splits[0].category_ids
    assert max(ids) > len(ids)
    check_disjoint(splits[0], splits[1])
    contents = digests(root / "detection")
    assert len(set(contents.values())) == len(contents)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        generate_shapes(tmp_path / name, seed=seed, **SMALL)
    first, again, other = (digests(tmp_path / name) for name in "abc")
    assert first == again
    assert first.keys() == other.keys()
    assert not {key for key in first if key.endswith("jpg") and first[key] == other[key]}


def test_a_larger_set_begins_with_the_smaller_one(tmp_path):
    generate_shapes(tmp_path / "a", **SMALL)
    generate_shapes(tmp_path / "b", **SMALL | {"detection_train": 15})
    small, large = digests(tmp_path / "a"), digests(tmp_path / "b")
    images = [key for key in small if key.endswith("jpg")]
    assert images and all(small[key] == large[key] for key in images)


def test_boxes_are_tight_and_shapes_hardly_overlap():
    for seed in range(20):
        rng = np.random.default_rng(seed)
        image, shapes = draw_scene(rng, 120, 100, [0, 1, 2, 3, 4], (14, 60))
        assert image.shape == (100, 120, 3) and image.dtype == np.uint8
        assert 1 <= len(shapes) <= 5
        for shape in shapes:
            x1, y1, x2, y2 = shape.box
            assert 0 <= x1 < x2 <= 120 and 0 <= y1 < y2 <= 100
            assert 7 <= max(x2 - x1, y2 - y1) <= 62
            assert 0.08 * (x2 - x1) * (y2 - y1) < shape.area <= (x2 - x1) * (y2 - y1)


@pytest.mark.parametrize("label", range(len(SHAPES)))
def test_a_box_encloses_what_was_painted(label):
    # Without noise, lines and patches the painted pixels are those that differ from the plain ground.
    class Plain(np.random.Generator):
        def normal(self, *args, **kwargs):
            return np.zeros(args[2] if len(args) > 2 else kwargs.get("size", ()))

    for seed in range(5):
        one = draw_scene(Plain(np.random.PCG64(seed)), 64, 64, [], (30, 40))[0].astype(int)
        two, (shape,) = draw_scene(Plain(np.random.PCG64(seed)), 64, 64, [label], (30, 40))
        ys, xs = np.nonzero(np.abs(two.astype(int) - one).sum(axis=2) > 60)
        x1, y1, x2, y2 = shape.box
        assert abs(xs.min() - x1) <= 1 and abs(xs.max() + 1 - x2) <= 1
        assert abs(ys.min() - y1) <= 1 and abs(ys.max() + 1 - y2) <= 1


def test_running_twice_does_nothing_and_other_parameters_are_refused(tmp_path):
    root = tmp_path / "shapes"
    assert generate_shapes(root, **SMALL) is True
    before = {file: file.stat().st_mtime_ns for file in root.rglob("*")}
    assert generate_shapes(root, **SMALL) is False
    assert {file: file.stat().st_mtime_ns for file in root.rglob("*")} == before
    with pytest.raises(DataError, match=r"shapes\.json: `seed` is 0, but 4 is asked for"):
        generate_shapes(root, seed=4, **SMALL)
    assert generate_shapes(root, seed=4, overwrite=True, **SMALL) is True
    assert json.loads((root / "shapes.json").read_text())["seed"] == 4
    assert [entry.name for entry in tmp_path.iterdir()] == ["shapes"]


def test_a_folder_of_the_users_is_never_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("x")
    for overwrite in (False, True):
        with pytest.raises(DataError, match="is not a set of generated shapes"):
            generate_shapes(tmp_path, overwrite=overwrite, **SMALL)
    assert (tmp_path / "thesis.txt").read_text() == "x"


def test_a_run_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("detnas_nni.data.shapes._save", fail)
    with pytest.raises(OSError, match="disk full"):
        generate_shapes(tmp_path / "shapes", **SMALL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "parameters",
    [
        {"classes": 1},
        {"classes": 9},
        {"detection_search": 0},
        {"classification_val": 5},
        {"classification_size": 8},
        {"detection_size": (128, 96)},
    ],
)
def test_parameters_out_of_range_are_refused_by_name(tmp_path, parameters):
    (name,) = parameters
    with pytest.raises(UsageError, match=f"^{name} is"):
        generate_shapes(tmp_path / "shapes", **SMALL | parameters)


def test_all_eight_shapes_can_be_drawn(tmp_path):
    generate_shapes(tmp_path / "shapes", classes=8, **SMALL)
    assert read_image_folder(tmp_path / "shapes" / "classification" / "train").classes == tuple(
        sorted(SHAPES)
    )
