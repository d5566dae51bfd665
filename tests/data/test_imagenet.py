"""Classification folders and their hold-out."""

import numpy as np
import pytest

from detnas_nni.data.imagenet import read_image_folder
from detnas_nni.errors import DataError
from tests.data.data_builders import write_image


def folder(root, **counts):
    for name, count in counts.items():
        for number in range(count):
            write_image(root / name / f"{number:03d}.{('jpg', 'png', 'JPEG')[number % 3]}", 4, 4)
    return root


def test_classes_and_files_come_sorted_and_other_files_are_passed_over(tmp_path):
    root = folder(tmp_path, dog=2, cat=3)
    (root / "README.txt").write_text("x")
    (root / "cat" / "notes.txt").write_text("x")
    (root / ".cache").mkdir()
    images = read_image_folder(root)
    assert images.classes == ("cat", "dog")
    assert [str(file.relative_to(root)) for file in images.files] == [
        "cat/000.jpg",
        "cat/001.png",
        "cat/002.JPEG",
        "dog/000.jpg",
        "dog/001.png",
    ]
    assert images.labels.tolist() == [0, 0, 0, 1, 1]


def test_the_training_parts_classes_set_the_labels(tmp_path):
    images = read_image_folder(folder(tmp_path, dog=1, cat=1), classes=("dog", "cat"))
    assert [file.parent.name for file in images.files] == ["dog", "cat"]
    assert images.labels.tolist() == [0, 1]


def test_folders_that_do_not_fit_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"nowhere: the folder cannot be read"):
        read_image_folder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="has no folder in it"):
        read_image_folder(tmp_path)
    root = folder(tmp_path, dog=1, cat=1)
    with pytest.raises(DataError, match=r"lacks the class folders \['horse'\].* unexpected ones \['cat'\]"):
        read_image_folder(root, classes=("dog", "horse"))
    (root / "ant").mkdir()
    with pytest.raises(DataError, match=r"ant: has no image"):
        read_image_folder(root)


def test_a_hold_out_is_seeded_disjoint_and_in_proportion(tmp_path):
    images = read_image_folder(folder(tmp_path, a=20, b=10, c=2))
    rest, held = images.hold_out(16, seed=3)
    assert np.bincount(held.labels).tolist() == [10, 5, 1]
    assert set(rest.files).isdisjoint(held.files)
    assert sorted(rest.files + held.files) == list(images.files)
    assert list(held.files) == sorted(held.files)
    for part in (rest, held):
        assert [part.classes[label] for label in part.labels] == [file.parent.name for file in part.files]
    assert images.hold_out(16, seed=3)[1].files == held.files
    assert images.hold_out(16, seed=4)[1].files != held.files


def test_a_hold_out_leaves_every_class_an_image(tmp_path):
    images = read_image_folder(folder(tmp_path, a=4, b=1))
    rest, _ = images.hold_out(3, seed=0)
    assert np.bincount(rest.labels).tolist() == [1, 1]
    for count in (0, 4):
        with pytest.raises(DataError, match=f"{count} images to hold out, expected 1 to 3"):
            images.hold_out(count, seed=0)
