"""Decoded images: the very values of the files, made once, shared, and never a reason for a search to end."""

import json
import logging
import os
from resource import RLIMIT_FSIZE, getrlimit, setrlimit

import pytest
import torch
from PIL import Image

from detnas_nni.data import cache as cache_module
from detnas_nni.data.cache import keep_decoded
from detnas_nni.data.coco import read_coco
from detnas_nni.data.datasets import ClassificationDataset, DetectionDataset, EvaluationDataset
from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.data.transforms import classification_eval, detection_eval
from detnas_nni.errors import DataError
from tests.data.data_builders import coco_set, truncate, write_image

ROOM = 10**9


def detection(root, count=4):
    return DetectionDataset(coco_set(root, count), detection_eval())


def classification(root):
    for number in range(4):
        write_image(root / ("a", "b")[number % 2] / f"{number}.png", width=50 + number, seed=number)
    return ClassificationDataset(read_image_folder(root), classification_eval(16))


def expect_the_same(kept, plain):
    """Images are the same numbers, as bytes; targets the same."""
    assert len(kept) == len(plain)
    for index in range(len(plain)):
        (small, target), (image, expected) = kept[index], plain[index]
        assert small.dtype is torch.uint8 and image.dtype is torch.float32
        assert torch.equal(small.to(torch.float32), image)
        if isinstance(expected, dict):
            assert target.keys() == expected.keys()
            assert all(torch.equal(target[key], value) for key, value in expected.items())
            assert [type(value) for value in target.values()] == [torch.Tensor] * len(target)
        else:
            assert target == expected


@pytest.mark.parametrize("build", [detection, classification])
@pytest.mark.parametrize("workers", [0, 2])
def test_a_kept_image_has_the_values_of_the_decoded_one(tmp_path, build, workers):
    kept, plain = build(tmp_path / "data"), build(tmp_path / "data")
    keep_decoded(kept, range(len(kept)), tmp_path / "kept", limit=ROOM, workers=workers)
    assert len(kept.kept) == 4
    expect_the_same(kept, plain)


def test_only_what_is_asked_for_is_kept_and_the_rest_is_decoded_as_ever(tmp_path):
    dataset = detection(tmp_path)
    keep_decoded(dataset, [2, 0, 2], tmp_path / "kept", limit=ROOM)
    assert len(dataset.kept) == 2
    assert [dataset[index][0].dtype for index in range(4)] == [
        torch.uint8,
        torch.float32,
        torch.uint8,
        torch.float32,
    ]


def test_the_second_process_takes_the_file_of_the_first(tmp_path, monkeypatch):
    images = coco_set(tmp_path)
    first, second, plain = (DetectionDataset(images, detection_eval()) for _ in range(3))
    keep_decoded(first, range(4), tmp_path / "kept", limit=ROOM)
    monkeypatch.setattr(cache_module, "_decode", None)  # what would decode again
    keep_decoded(second, range(4), tmp_path / "kept", limit=ROOM)
    expect_the_same(second, plain)


def other_pixels_in_as_many_bytes(root):
    """Only when it was written tells: PNG readers stop at the end of the image, before the padding."""
    file = root / "images" / "1.png"
    size = file.stat().st_size
    Image.new("RGB", (40, 30), "red").save(file)
    file.write_bytes(file.read_bytes().ljust(size, b"\0"))
    assert file.stat().st_size == size
    os.utime(file, (1, 1))


def other_pixels_at_the_same_time(root):
    """Only the size tells, as after a copy that keeps the times."""
    file = root / "images" / "1.png"
    status = file.stat()
    Image.new("RGB", (40, 30), "red").save(file)
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def cut_short(root):
    file = root / "kept.bin"
    file.write_bytes(file.read_bytes()[:-1])


def damaged_index(root):
    (root / "kept.json").write_text(json.dumps({"key": 1}))


@pytest.mark.parametrize(
    "change", [other_pixels_in_as_many_bytes, other_pixels_at_the_same_time, cut_short, damaged_index]
)
def test_what_has_changed_since_is_decoded_anew(tmp_path, change):
    keep_decoded(detection(tmp_path), range(4), tmp_path / "kept", limit=ROOM)
    change(tmp_path)
    images = read_coco(tmp_path / "images", tmp_path / "train.json")
    again, plain = (DetectionDataset(images, detection_eval()) for _ in range(2))
    keep_decoded(again, range(4), tmp_path / "kept", limit=ROOM)
    expect_the_same(again, plain)


def test_more_than_the_limit_is_not_kept_and_no_process_tries_again(tmp_path, caplog, monkeypatch):
    dataset = detection(tmp_path)
    with caplog.at_level(logging.INFO):
        keep_decoded(dataset, range(4), tmp_path / "kept", limit=3 * 30 * 40 * 4 - 1)
    assert "decoded anew for each candidate: they take more than hardware.keep_decoded_gb" in caplog.text
    assert dataset.kept is None and not (tmp_path / "kept.bin").exists()
    monkeypatch.setattr(cache_module, "_decode", None)
    keep_decoded(dataset, range(4), tmp_path / "kept", limit=3 * 30 * 40 * 4 - 1)
    assert dataset.kept is None


def test_what_will_not_fit_is_seen_before_the_disk_is_full(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(cache_module, "_ENOUGH", 2)
    dataset = detection(tmp_path, 6)
    image = 3 * 30 * 40
    with caplog.at_level(logging.INFO):
        keep_decoded(dataset, range(6), tmp_path / "kept", limit=5 * image)
    assert dataset.kept is None and "they would take" in caplog.text
    keep_decoded(dataset, range(5), tmp_path / "kept", limit=5 * image)
    assert len(dataset.kept) == 5


def test_a_disk_without_room_is_no_end(tmp_path, caplog):
    dataset = detection(tmp_path)
    before = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (5000, before[1]))
    try:
        keep_decoded(dataset, range(4), tmp_path / "kept", limit=ROOM)
    finally:
        setrlimit(RLIMIT_FSIZE, before)
    assert dataset.kept is None and not (tmp_path / "kept.bin").exists()
    assert "decoded anew for each candidate: [Errno 27] File too large" in caplog.text
    expect = detection(tmp_path)
    assert torch.equal(dataset[0][0], expect[0][0])


def test_a_bad_image_is_met_as_ever(tmp_path):
    images = coco_set(tmp_path)
    truncate(images.records[1].file)
    dataset = EvaluationDataset(images, detection_eval(), max_bad_images=1)
    keep_decoded(dataset, range(4), tmp_path / "kept", limit=ROOM)
    assert len(dataset.kept) == 3
    assert [dataset[index] is None for index in range(4)] == [False, True, False, False]
    strict = EvaluationDataset(images, detection_eval())
    keep_decoded(strict, range(4), tmp_path / "kept", limit=ROOM)
    with pytest.raises(DataError, match="1 bad image"):
        strict[1]


def test_images_that_are_no_whole_numbers_are_not_kept(tmp_path, caplog):
    halves = DetectionDataset(coco_set(tmp_path), lambda image, target: (image / 2, target))
    with caplog.at_level(logging.INFO):
        keep_decoded(halves, range(4), tmp_path / "kept", limit=ROOM)
    assert halves.kept is None
    assert "not whole numbers" in caplog.text
