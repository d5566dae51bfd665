"""VOC's mAP is the devkit's: worked by hand, against a plain computation in fractions, and pixel by pixel."""

import copy
import json
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from detnas_nni.errors import DataError, EvaluationError
from detnas_nni.metrics import boxes
from detnas_nni.metrics.voc import voc_map


def truth_of(objects: Sequence[tuple], images: int = 4, categories: Sequence[int] = (3, 8, 9)) -> dict:
    """A COCO object of rows (image, category, (x, y, width, height), difficult)."""
    return {
        "images": [{"id": number} for number in range(1, images + 1)],
        "categories": [{"id": category, "name": f"class {category}"} for category in categories],
        "annotations": [
            {"image_id": image, "category_id": category, "bbox": list(box), "difficult": difficult}
            for image, category, box, difficult in objects
        ],
    }


def found_of(rows: Sequence[tuple]) -> list[dict]:
    """COCO results of rows (image, category, (x, y, width, height), score)."""
    return [
        {"image_id": image, "category_id": category, "bbox": list(box), "score": score}
        for image, category, box, score in rows
    ]


A, B, C, D = (0, 0, 10, 10), (20, 0, 10, 10), (0, 0, 10, 10), (30, 30, 10, 10)
TRUTH = truth_of([(1, 3, A, 0), (1, 3, B, 1), (2, 3, C, 0), (2, 3, D, 0)])

# Three objects count; B is difficult.                       IoU       outcome            recall  precision
FOUND = found_of(
    [
        (3, 3, (5, 5, 9, 9), 0.5),  #                        -         false              2/3     2/4
        (1, 3, A, 0.9),  #                                   1         true: A            1/3     1/1
        (1, 3, (20, 0, 10, 10), 0.8),  #                     1         ignored: B
        (1, 3, (0, 0, 10, 8), 0.7),  #                       0.8       false: A again     1/3     1/2
        (2, 3, (0, 0, 10, 5), 0.6),  #                       0.5       true: C            2/3     2/3
        (2, 3, (30, 30, 10, 4), 0.4),  #                     0.4       false              2/3     2/5
        (2, 3, D, 0.3),  #                                   1         true: D            1       3/6
        (1, 3, (20, 0, 10, 9), 0.2),  #                      0.9       ignored: B again
    ]
)


def test_an_example_worked_by_hand():
    """The best precision from a recall on: 1 up to 1/3, 2/3 up to 2/3, 1/2 up to 1.

    Eleven points: 0 to 0.3 have 1, 0.4 to 0.6 have 2/3, 0.7 to 1 have 1/2: (4 + 2 + 2) / 11.
    All points: a third of the recall at each of the three: (1 + 2/3 + 1/2) / 3 = 13/18.
    """
    assert voc_map(TRUTH, FOUND) == pytest.approx({"mAP07": 8 / 11, "mAP": 13 / 18}, abs=1e-12)


def test_the_mean_is_over_the_classes_with_an_object_that_is_not_difficult():
    """Class 8 has an object that is not found: 0. Class 9 has a difficult one alone: it does not count."""
    truth = copy.deepcopy(TRUTH)
    truth["annotations"] += truth_of([(3, 8, A, 0), (3, 9, A, 1)])["annotations"]
    found = [*FOUND, *found_of([(3, 9, A, 0.9), (4, 9, A, 0.9)])]
    assert voc_map(truth, found) == pytest.approx({"mAP07": 4 / 11, "mAP": 13 / 36}, abs=1e-12)


def test_a_detection_belongs_to_the_object_that_it_overlaps_most_even_if_that_is_taken():
    """Two detections on the first of two near objects: COCO's rule would give the second its neighbour."""
    truth = truth_of([(1, 3, (0, 0, 10, 10), 0), (1, 3, (2, 0, 10, 10), 0)])
    found = found_of([(1, 3, (0, 0, 10, 10), 0.9), (1, 3, (0.5, 0, 10, 10), 0.8)])
    # 1 of 2 objects at precision 1: recalls 0 to 0.5 have it.
    assert voc_map(truth, found) == pytest.approx({"mAP07": 6 / 11, "mAP": 1 / 2})


def test_a_detection_nearest_to_a_difficult_object_is_ignored_though_another_is_near():
    truth = truth_of([(1, 3, (0, 0, 10, 10), 0), (1, 3, (2, 0, 10, 10), 1)])
    found = found_of([(1, 3, (1.5, 0, 10, 10), 0.9), (1, 3, (0, 0, 10, 10), 0.8)])
    assert voc_map(truth, found) == {"mAP07": 1.0, "mAP": 1.0}


def test_a_crowd_counts_as_difficult():
    truth = truth_of([(1, 3, A, 0), (1, 3, B, 0)])
    truth["annotations"][1] |= {"iscrowd": 1}
    assert voc_map(truth, found_of([(1, 3, B, 0.9), (1, 3, A, 0.8)])) == {"mAP07": 1.0, "mAP": 1.0}


@pytest.mark.parametrize("tenths", range(1, 11))
def test_a_recall_of_exactly_a_threshold_reaches_it(tenths):
    """Ten objects, some found: in floating point 3 / 10 is below 3 x 0.1."""
    truth = truth_of([(1, 3, (20 * at, 0, 10, 10), 0) for at in range(10)])
    found = found_of([(1, 3, (20 * at, 0, 10, 10), 0.5) for at in range(tenths)])
    expected = {"mAP07": (tenths + 1) / 11, "mAP": tenths / 10}
    assert voc_map(truth, found) == pytest.approx(expected, abs=1e-12)


def test_one_ground_truth_measures_growing_parts_like_a_fresh_one_each_time():
    read = boxes.GroundTruth(TRUTH)
    for part in ([1], [1, 2], [1, 2, 3]):
        so_far = [entry for entry in FOUND if entry["image_id"] in part]
        assert voc_map(read, so_far, image_ids=part) == voc_map(TRUTH, so_far, image_ids=part)


def test_equal_scores_are_gone_through_in_the_order_given():
    truth = truth_of([(1, 3, A, 0)])
    right, wrong = found_of([(1, 3, A, 0.5), (2, 3, A, 0.5)])
    assert voc_map(truth, [right, wrong])["mAP"] == 1.0
    assert voc_map(truth, [wrong, right])["mAP"] == 0.5


def test_the_threshold_can_be_another():
    truth, found = truth_of([(1, 3, A, 0)]), found_of([(1, 3, (0, 0, 10, 6), 0.5)])
    assert [voc_map(truth, found, iou=iou)["mAP"] for iou in (0.5, 0.6, 0.61)] == [1, 1, 0]
    for iou in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="iou is"):
            voc_map(truth, found, iou=iou)


# Against the same written plainly, in fractions: loops over detections, objects and recall levels.


def plain_overlap(first: Sequence[int], second: Sequence[int]) -> Fraction:
    """By the devkit's pixels: boxes from their first to their last pixel, each a pixel wide at least."""
    (ax, ay, aw, ah), (bx, by, bw, bh) = first, second
    columns = min(ax + aw - 1, bx + bw - 1) - max(ax, bx) + 1
    rows = min(ay + ah - 1, by + bh - 1) - max(ay, by) + 1
    if columns <= 0 or rows <= 0:
        return Fraction(0)
    return Fraction(columns * rows, aw * ah + bw * bh - columns * rows)


def plain_map(truth: dict, found: list[dict], image_ids: Sequence[int]) -> tuple[Fraction, Fraction]:
    eleven, area = [], []
    for category in truth["categories"]:
        objects = [
            a
            for a in truth["annotations"]
            if a["category_id"] == category["id"] and a["image_id"] in image_ids
        ]
        count = len([a for a in objects if not a["difficult"]])
        if count == 0:
            continue
        taken, points, right, wrong = [], [], 0, 0
        for entry in sorted(found, key=lambda entry: -entry["score"]):
            if entry["category_id"] != category["id"] or entry["image_id"] not in image_ids:
                continue
            best, best_object = Fraction(0), None
            for candidate in objects:
                if candidate["image_id"] == entry["image_id"]:
                    overlap = plain_overlap(entry["bbox"], candidate["bbox"])
                    if overlap > best:
                        best, best_object = overlap, candidate
            if best < Fraction(1, 2):
                wrong += 1
            elif best_object["difficult"]:
                continue
            elif any(best_object is other for other in taken):
                wrong += 1
            else:
                taken.append(best_object)
                right += 1
            points.append((Fraction(right, count), Fraction(right, right + wrong)))

        def best_from(level: Fraction, points: list = points) -> Fraction:
            return max((precision for recall, precision in points if recall >= level), default=Fraction(0))

        eleven.append(sum(best_from(Fraction(t, 10)) for t in range(11)) / 11)
        area.append(sum(best_from(Fraction(n, count)) for n in range(1, count + 1)) / count)
    return sum(eleven) / len(eleven), sum(area) / len(area)


def random_scene(seed: int) -> tuple[dict, list[dict]]:
    """Ten images, two of them empty, on a coarse grid and with few scores, so that both tie often."""
    rng = np.random.default_rng(seed)

    def box() -> list[int]:
        return [*(3 * rng.integers(0, 5, 2)).tolist(), *(3 * rng.integers(1, 5, 2)).tolist()]

    truth = truth_of(
        [
            (int(rng.integers(1, 9)), int(rng.choice([3, 8, 9])), box(), int(rng.random() < 0.25))
            for _ in range(60)
        ],
        images=10,
    )
    found = []
    for entry in truth["annotations"]:
        for _ in range(rng.integers(0, 4)):
            near = box() if rng.random() < 0.4 else entry["bbox"]
            found.append((entry["image_id"], entry["category_id"], near, int(rng.integers(1, 6)) / 5))
    found.append((10, 8, box(), 0.6))
    return truth, found_of([found[at] for at in rng.permutation(len(found))])


@pytest.mark.parametrize("seed", range(8))
def test_random_scenes_equal_a_plain_computation_with_the_devkits_pixels(seed):
    truth, found = random_scene(seed)
    for image_ids in (range(1, 11), [2, 3, 5, 9]):
        result = voc_map(truth, found, image_ids=image_ids)
        eleven, area = plain_map(truth, found, image_ids)
        assert result == pytest.approx({"mAP07": float(eleven), "mAP": float(area)}, abs=1e-12)
        assert 0.05 < result["mAP"] < 0.95 and result["mAP07"] != result["mAP"]
    assert voc_map(truth, found) == voc_map(truth, found, image_ids=range(1, 11))


def test_what_is_looked_at_in_parts_gives_the_same(monkeypatch):
    truth, found = random_scene(0)
    expected = voc_map(truth, found)
    for most in (1, 2, 7):
        monkeypatch.setattr(boxes, "_PAIRS_AT_ONCE", most)
        assert voc_map(truth, found) == expected


# What is empty, and what is broken.


def test_no_detections_give_zero_and_no_objects_minus_one():
    assert voc_map(TRUTH, []) == {"mAP07": 0.0, "mAP": 0.0}
    for objects in ([], [(1, 3, A, 1)]):
        assert voc_map(truth_of(objects), FOUND) == {"mAP07": -1.0, "mAP": -1.0}
    assert voc_map(TRUTH, FOUND, image_ids=[3, 4]) == {"mAP07": -1.0, "mAP": -1.0}


def test_a_box_without_an_area_finds_nothing():
    found = found_of([(1, 3, (5, 5, 0, 0), 0.9), (1, 3, (5, 5, -3, -3), 0.8), (1, 3, A, 0.7)])
    assert voc_map(truth_of([(1, 3, A, 0)]), found)["mAP"] == pytest.approx(1 / 3)


def test_a_file_gives_what_its_content_gives(tmp_path: Path):
    file = tmp_path / "test.json"
    file.write_text(json.dumps(TRUTH))
    assert voc_map(file, FOUND) == voc_map(str(file), FOUND) == voc_map(TRUTH, FOUND)
    with pytest.raises(DataError, match=r"none\.json"):
        voc_map(tmp_path / "none.json", FOUND)


def test_nothing_given_is_changed():
    before = copy.deepcopy((TRUTH, FOUND))
    voc_map(TRUTH, FOUND)
    assert before == (TRUTH, FOUND)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("score", float("nan"), "score nan"),
        ("bbox", [0.0, 0.0, float("inf"), 1.0], "finite"),
        ("image_id", 7, "image_id 7"),
        ("category_id", 1, r"category_id 1 .*\[3, 8, 9\]"),
    ],
)
def test_a_broken_detection_is_named(key, value, expected):
    found = copy.deepcopy(FOUND)
    found[4][key] = value
    with pytest.raises(EvaluationError, match=rf"detections\[4\].*{expected}"):
        voc_map(TRUTH, found)


def test_image_ids_have_to_be_of_the_ground_truth():
    for image_ids in ([], [7]):
        with pytest.raises(EvaluationError, match="empty or unknown"):
            voc_map(TRUTH, FOUND, image_ids=image_ids)
