"""COCO AP is pycocotools' own, whatever the ids; broken detections are named."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detnas_nni.errors import DataError, EvaluationError
from detnas_nni.metrics import coco_box_ap, top1

KEYS = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


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
    """The same through pycocotools' own loading."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(copy.deepcopy(found)), "bbox")
        if image_ids is not None:
            evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.mark.parametrize("seed", range(3))
def test_ap_equals_pycocotools_with_crowds_gaps_and_empty_images(seed):
    truth, found = scene(seed)
    result = coco_box_ap(truth, found)
    assert list(result) == KEYS
    assert list(result.values()) == direct(truth, found)
    assert 0.05 < result["AP"] < 0.95


def test_a_part_of_the_images_equals_pycocotools_on_that_part():
    truth, found = scene()
    part = [7, 12, 17]
    assert list(coco_box_ap(truth, found, image_ids=part).values()) == direct(truth, found, part)
    assert coco_box_ap(truth, found, image_ids=part) != coco_box_ap(truth, found)


def test_a_file_gives_what_its_content_gives(tmp_path):
    truth, found = scene()
    file = tmp_path / "val.json"
    file.write_text(json.dumps(truth))
    assert coco_box_ap(file, found) == coco_box_ap(str(file), found) == coco_box_ap(truth, found)
    with pytest.raises(DataError, match=r"none\.json"):
        coco_box_ap(tmp_path / "none.json", found)


def test_no_detections_give_zero_and_undefined_stays_minus_one():
    truth, _ = scene()
    for annotation in truth["annotations"]:
        annotation["area"] = 50.0**2
    result = coco_box_ap(truth, [])
    assert [result[key] for key in ("AP", "AP50", "APm", "AR100")] == [0, 0, 0, 0]
    assert [result[key] for key in ("APs", "APl", "ARs", "ARl")] == [-1, -1, -1, -1]
    assert set(coco_box_ap({**truth, "annotations": []}, []).values()) == {-1.0}


def test_perfect_detections_give_one_also_when_an_annotation_has_the_id_zero():
    truth, _ = scene()
    for annotation in truth["annotations"]:
        annotation["id"] -= 1  # pycocotools alone takes the id 0 for an unmatched detection
        annotation["iscrowd"] = 0
    found = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.5}
        for entry in truth["annotations"]
    ]
    assert coco_box_ap(truth, found)["AP"] == pytest.approx(1.0)


def test_nothing_is_printed_and_nothing_given_is_changed(capsys):
    truth, found = scene()
    before = copy.deepcopy((truth, found))
    coco_box_ap(truth, found)
    assert capsys.readouterr().out == ""
    assert (truth, found) == before


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("score", float("nan"), "score nan"),
        ("score", float("inf"), "score inf"),
        ("bbox", [0.0, 0.0, float("nan"), 1.0], "finite"),
        ("image_id", 3, "image_id 3"),
        ("category_id", 1, r"category_id 1 .*\[2, 5, 90\]"),
    ],
)
def test_a_broken_detection_is_named(key, value, expected):
    truth, found = scene()
    found[4][key] = value
    with pytest.raises(EvaluationError, match=rf"detections\[4\].*{expected}"):
        coco_box_ap(truth, found)


def test_image_ids_have_to_be_of_the_ground_truth():
    truth, found = scene()
    for image_ids in ([], [1]):
        with pytest.raises(EvaluationError, match="empty or unknown"):
            coco_box_ap(truth, found, image_ids=image_ids)


def test_top1_counts_the_logits_that_are_largest_at_their_label():
    logits = torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]])
    assert top1(logits, torch.tensor([1, 1, 1])) == 2
