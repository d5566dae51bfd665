"""COCO AP, quick or official, is what pycocotools makes of a scene; broken detections are named."""

import contextlib
import copy
import io
import json
from collections import Counter

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detnas_nni.errors import DataError, EvaluationError
from detnas_nni.metrics import GroundTruth, boxes, coco_box_ap, official_coco_box_ap, top1

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]

BOTH = pytest.mark.parametrize("measure", [coco_box_ap, official_coco_box_ap])


def scene(seed: int = 0) -> tuple[dict, list[dict]]:
    """Twelve images (one without a box), three categories with gaps, some crowds; detections near and far."""
    rng = np.random.default_rng(seed)
    truth = {
        "images": [
            {"id": 5 * i + 2, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in range(12)
        ],
        "annotations": [],
        "categories": [{"id": c, "name": str(c)} for c in (2, 5, 90)],
    }
    found = []
    for image in truth["images"][1:]:
        for _ in range(rng.integers(1, 7)):
            x, y = rng.uniform(0, 150, 2)
            w, h = rng.uniform(8, 140, 2)
            category = int(rng.choice([2, 5, 90]))
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": category,
                    "bbox": [x, y, w, h],
                    "area": w * h * 0.8,
                    "iscrowd": int(rng.random() < 0.15),
                }
            )
            for _ in range(rng.integers(0, 3)):
                near = (np.array([x, y, w, h]) + rng.normal(0, 4, 4)).tolist()
                found.append(
                    {
                        "image_id": image["id"],
                        "category_id": category,
                        "bbox": near,
                        "score": float(rng.random()),
                    }
                )
    found.append({"image_id": 2, "category_id": 5, "bbox": [1, 1, 20, 20], "score": 0.9})
    return truth, found


def direct(truth: dict, found: list[dict], image_ids=None) -> list[float]:
    """The same by pycocotools, through its own loading where there is something to load."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco, results = COCO(), COCO()
        coco.dataset = copy.deepcopy(truth)
        results.dataset = {**coco.dataset, "annotations": []}
        coco.createIndex()
        results.createIndex()
        if found:  # its loadRes fails on an empty list
            results = coco.loadRes(copy.deepcopy(found))
        evaluation = COCOeval(coco, results, "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def coarse_scene(seed: int) -> tuple[dict, list[dict], list[int]]:
    """What a scene can have that decides by a tie, an end of a range, or an absence; and some of its images.

    Boxes on a coarse grid and few scores, so that overlaps tie with each other and with thresholds, and
    scores do within an image and across images; areas on both sides of 32² and 96² and at them; crowds;
    categories and images with gaps between their ids, without objects, without detections; in some scenes
    more than 100 detections of a category in an image.
    """
    rng = np.random.default_rng(seed)
    images = rng.choice(50, rng.integers(1, 8), replace=False).tolist()
    categories = rng.choice(90, rng.integers(1, 5), replace=False).tolist()
    # 32 x 32 and 96 x 96 are among them.
    sides = [0, 16, 31, 32, 33, 48, 64, 95, 96, 97, 144]

    def box() -> list[float]:
        corner = (16.0 * rng.integers(0, 4, 2)).tolist()
        side = float(rng.choice(sides))
        return [*corner, side, side if rng.random() < 0.5 else float(rng.choice(sides))]

    truth = {
        "images": [{"id": image} for image in images],
        "categories": [{"id": category, "name": str(category)} for category in categories],
        "annotations": [],
    }
    with_objects = [image for image in images if rng.random() < 0.8]
    for image in with_objects:
        for _ in range(rng.integers(0, 8)):
            of_image = box()
            area = [of_image[2] * of_image[3], 32.0**2, 96.0**2, np.nextafter(32.0**2, 0), 96.5**2]
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image,
                    "category_id": int(rng.choice(categories[:3])),
                    "bbox": of_image,
                    "area": float(rng.choice(area)),
                    "iscrowd": int(rng.random() < 0.2),
                    "ignore": int(rng.random() < 0.2),
                }
            )
    objects = truth["annotations"]
    found = []
    for _ in range(rng.choice([0, 5, 30, 400], p=[0.05, 0.25, 0.6, 0.1])):
        near = objects[rng.integers(len(objects))] if objects and rng.random() < 0.6 else None
        found.append(
            {
                "image_id": near["image_id"] if near else int(rng.choice(images)),
                "category_id": near["category_id"] if near else int(rng.choice(categories)),
                "bbox": near["bbox"] if near and rng.random() < 0.4 else box(),
                "score": int(rng.integers(1, 5)) / 4,
            }
        )
    return truth, found, sorted(rng.choice(images, rng.integers(1, len(images) + 1), replace=False).tolist())


@BOTH
@pytest.mark.parametrize("seed", range(3))
def test_ap_equals_pycocotools_with_crowds_gaps_and_empty_images(seed, measure):
    truth, found = scene(seed)
    result = measure(truth, found)
    assert list(result) == KEYS
    assert list(result.values()) == direct(truth, found)
    assert 0.05 < result["AP"] < 0.95


@pytest.mark.parametrize("first_seed", range(0, 400, 50))
def test_hundreds_of_scenes_full_of_ties_and_ends_equal_pycocotools(first_seed):
    for seed in range(first_seed, first_seed + 50):
        truth, found, part = coarse_scene(seed)
        read = GroundTruth(truth)
        for image_ids in (None, part):
            expected = direct(truth, found, image_ids)
            quick = coco_box_ap(read, found, image_ids)
            assert list(quick.values()) == pytest.approx(expected, abs=1e-9), seed


def test_the_official_one_gives_pycocotools_numbers_whatever_is_in_the_scene():
    for seed in range(40):
        truth, found, part = coarse_scene(seed)
        for image_ids in (None, part):
            result = official_coco_box_ap(truth, found, image_ids)
            assert list(result.values()) == direct(truth, found, image_ids), seed


def test_the_coarse_scenes_have_what_they_are_for():
    scenes = [coarse_scene(seed) for seed in range(400)]
    crowded = Counter()
    for truth, found, _ in scenes:
        groups = Counter((entry["image_id"], entry["category_id"]) for entry in found)
        crowded["more than 100"] += max(groups.values(), default=0) > 100
        crowded["nothing found"] += not found
        crowded["nothing to find"] += not truth["annotations"]
        crowded["id 0"] += any(entry["id"] == 0 for entry in truth["images"] + truth["categories"])
        crowded["crowd"] += any(entry["iscrowd"] for entry in truth["annotations"])
    assert min(crowded.values()) >= 10 and len(crowded) == 5
    values = np.array([list(coco_box_ap(truth, found).values()) for truth, found, _ in scenes])
    assert ((values > 0) & (values < 1)).mean(axis=0).min() > 0.3  # each of the twelve says something


def test_the_hundred_best_of_a_category_in_an_image_count():
    """A hundred false ones ahead of the right one hide it; ninety-nine leave it the last place."""
    truth = {
        "images": [{"id": 1}, {"id": 2}],
        "categories": [{"id": 1}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500}],
    }
    false = {"image_id": 1, "category_id": 1, "bbox": [100, 100, 50, 50], "score": 0.9}
    right = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 50, 50], "score": 0.5}
    truth["annotations"][0]["iscrowd"] = 0
    for others, recall in ((99, 1.0), (100, 0.0)):
        found = [right, *[false] * others]
        assert coco_box_ap(truth, found)["AR100"] == recall == direct(truth, found)[KEYS.index("AR100")]


def test_what_is_looked_at_in_parts_gives_the_same(monkeypatch):
    truth, found = scene()
    expected = coco_box_ap(truth, found)
    for most in (1, 2, 7):
        monkeypatch.setattr(boxes, "_PAIRS_AT_ONCE", most)
        assert coco_box_ap(truth, found) == expected


def test_one_ground_truth_measures_growing_parts_like_a_fresh_one_each_time():
    truth, found = scene()
    read = GroundTruth(truth)
    for count in (1, 4, 12):
        part = [image["id"] for image in truth["images"][:count]]
        so_far = [entry for entry in found if entry["image_id"] in part]
        assert coco_box_ap(read, so_far, part) == coco_box_ap(truth, so_far, part)


@BOTH
def test_an_annotation_without_area_or_crowd_has_its_boxs_area_and_is_none(measure):
    truth, found = scene()
    for annotation in truth["annotations"]:
        annotation |= {"area": annotation["bbox"][2] * annotation["bbox"][3], "iscrowd": 0}
    bare = copy.deepcopy(truth)
    for annotation in bare["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    assert measure(bare, found) == measure(truth, found)


@BOTH
def test_a_part_of_the_images_equals_pycocotools_on_that_part(measure):
    truth, found = scene()
    part = [7, 12, 17]
    assert list(measure(truth, found, image_ids=part).values()) == direct(truth, found, part)
    assert measure(truth, found, image_ids=part) != measure(truth, found)


@BOTH
def test_a_file_gives_what_its_content_gives(tmp_path, measure):
    truth, found = scene()
    file = tmp_path / "val.json"
    file.write_text(json.dumps(truth))
    assert measure(file, found) == measure(str(file), found) == measure(truth, found)
    with pytest.raises(DataError, match=r"none\.json"):
        measure(tmp_path / "none.json", found)


@BOTH
def test_no_detections_give_zero_and_undefined_stays_minus_one(measure):
    truth, _ = scene()
    for annotation in truth["annotations"]:
        annotation["area"] = 50.0**2
    result = measure(truth, [])
    assert [result[key] for key in ("AP", "AP50", "APm", "AR100")] == [0, 0, 0, 0]
    assert [result[key] for key in ("APs", "APl", "ARs", "ARl")] == [-1, -1, -1, -1]
    assert set(measure({**truth, "annotations": []}, []).values()) == {-1.0}


@BOTH
def test_perfect_detections_give_one_also_when_an_annotation_has_the_id_zero(measure):
    truth, _ = scene()
    for annotation in truth["annotations"]:
        annotation["id"] -= 1  # pycocotools takes the id 0 for "unmatched"
        annotation["iscrowd"] = 0
    found = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for entry in truth["annotations"]
    ]
    assert measure(truth, found)["AP"] == pytest.approx(1.0)
    assert direct(truth, found)[0] < 1


@BOTH
def test_nothing_is_printed_and_nothing_given_is_changed(measure, capsys):
    truth, found = scene()
    before = copy.deepcopy((truth, found))
    measure(truth, found)
    assert capsys.readouterr().out == ""
    assert (truth, found) == before


@BOTH
@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("score", float("nan"), "score nan"),
        ("score", float("inf"), "score inf"),
        ("bbox", [0.0, 0.0, float("nan"), 1.0], "finite"),
        ("image_id", 3, "image_id 3"),
        ("category_id", 1, r"category_id 1 .*\[2, 5, 90\]"),
        ("bbox", [0.0, 0.0, 1.0], r"box \[0.0, 0.0, 1.0\], expected x, y, width and height"),
    ],
)
def test_a_broken_detection_is_named(key, value, expected, measure):
    truth, found = scene()
    found[4][key] = value
    with pytest.raises(EvaluationError, match=rf"detections\[4\].*{expected}"):
        measure(truth, found)


@BOTH
def test_image_ids_have_to_be_of_the_ground_truth(measure):
    truth, found = scene()
    for image_ids in ([], [1]):
        with pytest.raises(EvaluationError, match="empty or unknown"):
            measure(truth, found, image_ids=image_ids)


def test_top1_counts_the_logits_that_are_largest_at_their_label():
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert top1(logits, torch.tensor([1, 1, 1])) == 2
