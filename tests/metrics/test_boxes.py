"""Which detections meet which objects, in parts of bounded size."""

from itertools import pairwise

import numpy as np
import pytest

from detnas_nni.errors import EvaluationError
from detnas_nni.metrics import boxes
from detnas_nni.metrics.boxes import GroundTruth, pairs, places_in_run


def sorted_numbers(rng: np.random.Generator, most: int) -> np.ndarray:
    return np.sort(rng.integers(0, most, rng.integers(0, 30)))


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_pairs_are_all_that_hold_the_same_number_in_order(at_once, monkeypatch):
    monkeypatch.setattr(boxes, "_PAIRS_AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    for most in [1, 4, 40] * 20:
        first, second = sorted_numbers(rng, most), sorted_numbers(rng, most)
        expected = [(a, b) for a, x in enumerate(first) for b, y in enumerate(second) if x == y]
        found, parts = [], []
        for left, right in pairs(first, second):
            found += zip(left.tolist(), right.tolist(), strict=True)
            parts.append(first[left])
        assert found == expected
        for part, following in pairwise(parts):
            assert part[-1] < following[0]  # no number is in two parts
        runs = [int((first == x).sum() * (second == x).sum()) for x in set(first.tolist())]
        assert all(len(part) <= at_once + max(runs) for part in parts)


def test_places_in_a_run_count_the_equal_ones_before():
    assert places_in_run(np.array([7, 7, 7, 2, 5, 5])).tolist() == [0, 1, 2, 0, 0, 1]
    assert places_in_run(np.array([], dtype=np.int64)).tolist() == []


def test_ids_may_be_of_any_kind_and_in_any_order():
    truth = GroundTruth(
        {
            "images": [{"id": "b"}, {"id": "a"}],
            "categories": [{"id": 9, "name": "nine"}, {"id": 0, "name": "zero"}],
            "annotations": [
                {"image_id": "a", "category_id": 9, "bbox": [0, 0, 4, 5]},
                {"image_id": "elsewhere", "category_id": 9, "bbox": [0, 0, 4, 5]},
                {"image_id": "b", "category_id": 1, "bbox": [0, 0, 4, 5]},
            ],
        }
    )
    assert truth.categories == (0, 9)
    assert truth.objects.image.tolist() == [0]
    assert truth.objects.category.tolist() == [1]
    assert truth.objects.areas.tolist() == [20]
    assert truth.chosen(["b"]).tolist() == [False, True]
    found = truth.detections([{"image_id": "b", "category_id": 0, "bbox": [1, 2, 3, 4], "score": 1}])
    assert (found.image.tolist(), found.category.tolist()) == ([1], [0])
    assert found.boxes.tolist() == [[1, 2, 3, 4]]


def test_an_annotation_whose_box_is_none_is_named():
    truth = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {"image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1]},
            {"image_id": 1, "category_id": 1, "bbox": []},
        ],
    }
    with pytest.raises(EvaluationError, match=r"annotations\[1\] has the box \[\], expected x, y, width"):
        GroundTruth(truth)
