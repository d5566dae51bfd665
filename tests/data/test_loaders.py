"""Data sets and loaders: the same values however many workers, and bad images that do not end a training."""

import logging
import multiprocessing

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from detnas_nni.data import images as images_module
from detnas_nni.data.coco import read_coco
from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.loaders import (
    ClassificationDataset,
    DetectionDataset,
    EvaluationDataset,
    TrainBatches,
    eval_loader,
    train_loader,
)
from detnas_nni.data.records import DetectionSet
from detnas_nni.data.transforms import (
    classification_eval,
    classification_train,
    detection_eval,
    detection_train,
)
from detnas_nni.data.voc import read_voc
from detnas_nni.errors import DataError
from tests.data.data_builders import (
    coco_content,
    coco_set,
    truncate,
    voc_object,
    write_coco,
    write_image,
    write_voc,
)

WORKERS = pytest.mark.parametrize("workers", [0, 2])


def classification_set(root, count=6):
    for number in range(count):
        write_image(root / ("a", "b")[number % 2] / f"{number}.png", seed=number)
    return read_image_folder(root)


def run(dataset, steps=6, workers=0, seed=5, start_step=0, batch_size=2) -> list:
    batches = TrainBatches(len(dataset), batch_size, steps, seed, start_step=start_step)
    return list(train_loader(dataset, batches, workers))


def tensors(batches) -> list[torch.Tensor]:
    """All tensors of nested lists, tuples and dicts, in order."""
    if isinstance(batches, torch.Tensor):
        return [batches]
    entries = batches.values() if isinstance(batches, dict) else batches
    return [tensor for entry in entries for tensor in tensors(entry)]


def same(first: list, second: list) -> bool:
    one, other = tensors(first), tensors(second)
    return len(one) == len(other) and all(map(torch.equal, one, other))


def test_a_detection_item_is_an_image_and_its_boxes_without_the_crowds(tmp_path):
    content = coco_content()
    content["annotations"].append({**content["annotations"][0], "id": 9, "iscrowd": 1})
    images = read_coco(*write_coco(tmp_path, content))
    image, target = DetectionDataset(images, detection_eval())[0]
    assert image.shape == (3, 30, 40) and image.dtype == torch.float32
    assert type(image) is torch.Tensor and type(target["boxes"]) is torch.Tensor
    pixels = np.asarray(Image.open(images.records[0].file))
    assert torch.equal(image, torch.from_numpy(pixels[..., ::-1].copy()).permute(2, 0, 1).float())
    assert target["boxes"].tolist() == [[0, 5, 10, 25]]
    assert target["labels"].tolist() == [1] and int(target["image_id"]) == 10


def test_training_leaves_out_images_without_a_box_to_learn_from(tmp_path):
    content = coco_content()
    del content["annotations"][0]
    content["annotations"][0]["iscrowd"] = 1
    images = read_coco(*write_coco(tmp_path, content))
    assert [r.image_id for r in DetectionDataset(images, detection_train(), drop_empty=True).records] == [
        12,
        13,
    ]
    assert len(DetectionDataset(images, detection_train())) == 4
    boxes = DetectionDataset(images, detection_train(1.0))[1][1]["boxes"]
    assert boxes.shape == (0, 4)
    with pytest.raises(DataError, match=r"train.json: none of its 2 images has a box"):
        DetectionDataset(images.subset([0, 1]), detection_train(), drop_empty=True)


def test_difficult_objects_are_trained_on_only_if_asked_for(tmp_path):
    """As maskrcnn-benchmark: an image whose only object is difficult has nothing to learn from."""
    easy, hard = voc_object("cat", (4, 5, 20, 25)), voc_object("cat", (1, 1, 9, 9), difficult=1)
    images = read_voc(write_voc(tmp_path, {"a": [hard, easy], "b": [hard], "c": [easy]}), "train")

    def boxes(**options) -> list[list[list[float]]]:
        dataset = DetectionDataset(images, detection_eval(), drop_empty=True, **options)
        return [target["boxes"].tolist() for _, target in dataset]

    assert boxes() == [[[4, 5, 20, 25]], [[4, 5, 20, 25]]]
    assert boxes(train_difficult=True) == [[[1, 1, 9, 9], [4, 5, 20, 25]], [[1, 1, 9, 9]], [[4, 5, 20, 25]]]
    assert [entry["difficult"] for entry in images.ground_truth()["annotations"]] == [1, 0, 1, 0]


def test_an_empty_split_is_refused():
    empty = DetectionSet("some split", ("a",), (1,), ())
    with pytest.raises(DataError, match="some split: is empty"):
        DetectionDataset(empty, detection_train(), drop_empty=True)


def test_the_values_do_not_depend_on_the_number_of_workers(tmp_path):
    boxes = DetectionDataset(coco_set(tmp_path / "d", 6), detection_train(), seed=1)
    labels = ClassificationDataset(classification_set(tmp_path / "c"), classification_train(16), seed=1)
    for dataset in (boxes, labels):
        alone = run(dataset, workers=0)
        assert same(alone, run(dataset, workers=2))
        assert same(alone, run(dataset, workers=1))


def test_a_resumed_training_sees_the_same_augmented_images(tmp_path):
    images = classification_set(tmp_path)

    def dataset(seed=1):
        return ClassificationDataset(images, classification_train(16), seed=seed)

    whole = run(dataset(), steps=8)
    torch.rand(7)  # the state of the process's own stream does not matter
    assert same(whole[5:], run(dataset(), steps=8, start_step=5))
    assert not same(whole, run(dataset(seed=2), steps=8))


def test_an_image_is_augmented_anew_at_each_position(tmp_path):
    dataset = ClassificationDataset(classification_set(tmp_path), classification_train(16), seed=1)
    assert torch.equal(dataset[0, 7][0], dataset[0, 7][0])
    assert not torch.equal(dataset[0, 7][0], dataset[0, 8][0])


def test_loading_leaves_the_processs_own_random_stream_alone(tmp_path):
    dataset = ClassificationDataset(classification_set(tmp_path), classification_train(16), seed=1)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    run(dataset)
    assert torch.equal(torch.rand(4), expected)


@WORKERS
def test_batches_have_the_form_that_the_nets_take(tmp_path, workers):
    ((images, targets),) = run(DetectionDataset(coco_set(tmp_path / "d"), detection_eval()), 1, workers)
    assert [image.shape for image in images] == [(3, 30, 40)] * 2
    assert [set(target) for target in targets] == [{"boxes", "labels", "image_id"}] * 2
    labelled = ClassificationDataset(classification_set(tmp_path / "c"), classification_eval(16))
    sizes = [(x.shape, y.shape, y.dtype) for x, y in eval_loader(labelled, 4, workers)]
    assert sizes == [((4, 3, 16, 16), (4,), torch.int64), ((2, 3, 16, 16), (2,), torch.int64)]


@WORKERS
def test_a_truncated_image_is_replaced_and_counted_once_in_training(tmp_path, workers):
    images = coco_set(tmp_path)
    truncate(images.records[1].file)
    dataset = DetectionDataset(images, detection_eval(), max_bad_images=1)
    batches = run(dataset, steps=6, workers=workers)
    seen = [int(target["image_id"]) for _, targets in batches for target in targets]
    order = [index for batch in TrainBatches(4, 2, 6, 5) for index, _ in batch]
    assert seen == [[10, 12, 12, 13][index] for index in order]
    truncate(images.records[0].file)  # one more than allowed: the first counts, and once
    with pytest.raises(DataError, match=r"2 bad image\(s\) in .*, 1 allowed"):
        run(dataset, steps=6, workers=workers)


def test_a_bad_image_is_logged_once_with_its_name(tmp_path, caplog):
    images = coco_set(tmp_path)
    truncate(images.records[1].file)
    with caplog.at_level(logging.WARNING):
        run(DetectionDataset(images, detection_eval(), max_bad_images=1), steps=12)
    (entry,) = [record.getMessage() for record in caplog.records]
    assert str(images.records[1].file) in entry and "cannot be decoded" in entry


@WORKERS
def test_more_bad_images_than_allowed_end_the_training_with_one_clean_message(tmp_path, workers):
    images = coco_set(tmp_path, 8)
    for record in images.records[2:4]:
        truncate(record.file)
    dataset = DetectionDataset(images, detection_eval(), max_bad_images=1)
    with pytest.raises(DataError) as caught:
        run(dataset, steps=8, workers=workers)
    message = str(caught.value)
    assert any(str(record.file) in message for record in images.records[2:4])
    assert "2 bad image(s)" in message and "1 allowed" in message and "max_bad_images" in message
    assert str(tmp_path / "train.json") in message
    assert "Traceback" not in message and "\n" not in message
    with pytest.raises(DataError, match="max_bad_images"):
        run(dataset, steps=8, workers=workers)


def test_an_error_ends_the_workers_at_once(tmp_path):
    images = coco_set(tmp_path)
    truncate(images.records[0].file)
    before = set(multiprocessing.active_children())
    with pytest.raises(DataError):
        list(eval_loader(EvaluationDataset(images, detection_eval()), 1, 2))
    assert set(multiprocessing.active_children()) <= before


@WORKERS
def test_when_all_images_are_bad_the_training_ends_however_many_are_allowed(tmp_path, workers):
    images = classification_set(tmp_path)
    for file in images.files:
        file.write_text("no image")
    dataset = ClassificationDataset(images, classification_train(16), max_bad_images=100)
    with pytest.raises(DataError, match="all of its 6 images are bad"):
        run(dataset, workers=workers)


@WORKERS
def test_an_evaluation_leaves_a_bad_image_out(tmp_path, workers):
    images = coco_set(tmp_path)
    truncate(images.records[2].file)
    dataset = EvaluationDataset(images, detection_eval(), max_bad_images=1)
    seen = [int(target["image_id"]) for _, targets in eval_loader(dataset, 3, workers) for target in targets]
    assert seen == [10, 11, 13]
    assert dataset[2] is None
    alone = [len(batch[0]) for batch in eval_loader(dataset, 1, workers)]
    assert alone == [1, 1, 1]
    with pytest.raises(DataError, match=r"2\.png.*max_bad_images"):
        list(eval_loader(EvaluationDataset(images, detection_eval()), 2, workers))


def test_a_classification_evaluation_leaves_a_bad_image_out(tmp_path):
    images = classification_set(tmp_path)
    truncate(images.files[0])
    dataset = ClassificationDataset(images, classification_eval(16), max_bad_images=1, replace_bad=False)
    assert [len(labels) for _, labels in eval_loader(dataset, 3, 0)] == [2, 3]


def test_a_loader_with_workers_can_be_gone_through_again(tmp_path):
    dataset = DetectionDataset(coco_set(tmp_path), detection_eval())
    loader = eval_loader(dataset, 2, 2)
    assert same(list(loader), list(loader))


def test_a_data_set_can_be_gone_through_directly(tmp_path):
    assert len(list(DetectionDataset(coco_set(tmp_path), detection_eval()))) == 4


def test_an_image_of_another_size_than_annotated_is_bad(tmp_path):
    file = write_image(tmp_path / "a.png", 40, 30)
    with pytest.raises(BadImageError, match="is 40x30 pixels, its annotation says 40x31"):
        read_image(file, (40, 31))


def test_a_photo_is_turned_only_if_its_annotation_is_for_the_turned_one(tmp_path):
    file = tmp_path / "a.png"
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    Image.fromarray(np.arange(40 * 30 * 3, dtype=np.uint8).reshape(30, 40, 3)).save(file, exif=exif)
    as_stored, turned = read_image(file, (40, 30)), read_image(file, (30, 40))
    assert torch.equal(turned, as_stored.rot90(-1, (1, 2)))
    assert torch.equal(read_image(file), as_stored)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be decoded"),
        (b"GIF89a", "cannot be decoded"),
        (b"%!PS-Adobe-3.0 EPSF", "cannot be decoded"),
    ],
)
def test_what_is_no_image_is_bad(tmp_path, content, reason):
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(BadImageError, match=reason):
        read_image(tmp_path / "a.jpg")


def test_a_missing_image_is_bad(tmp_path):
    with pytest.raises(BadImageError, match="No such file"):
        read_image(tmp_path / "a.jpg")


def test_an_image_of_absurd_size_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    file = tmp_path / "bomb.png"
    Image.new("1", (9000, 9000)).save(file)  # 10 kB on disk, 243 MB as RGB
    assert file.stat().st_size < 100_000 and images_module.MAX_PIXELS < 9000 * 9000
    unpacked = []
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: unpacked.append(image))
    with pytest.raises(BadImageError, match="9000x9000 pixels"):
        read_image(file)
    assert unpacked == []


def test_grey_and_transparent_images_become_three_channels(tmp_path):
    for mode in ("L", "RGBA", "P", "1", "LA"):
        Image.new(mode, (5, 4)).save(tmp_path / "a.png")
        assert read_image(tmp_path / "a.png").shape == (3, 4, 5)
