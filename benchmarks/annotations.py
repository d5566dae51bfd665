"""How fast are annotations read, compared with another checkout of this package?

    python benchmarks/annotations.py --against ../other

reads one generated COCO file, and the same boxes as VOC, with this checkout and with the other, in processes
that take turns, and prints one JSON object: CPU seconds (median) of each, and the ratio of this one to the
other in the same rounds (lower quartile, median, upper quartile). Image files exist but are empty: none needs
to be opened. The time of `json` or expat alone is included in both.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

_REPOSITORY = Path(__file__).parents[1]

_READ = """
import gc, sys, time
from pathlib import Path
form, root = sys.argv[1], Path(sys.argv[2])
if form == "coco":
    from detnas_nni.data.coco import read_coco as read
    arguments = root / "JPEGImages", root / "train.json"
else:
    from detnas_nni.data.voc import read_voc as read
    arguments = root, "train"
for _ in sys.stdin:
    gc.collect()
    started = time.process_time()
    found = read(*arguments)
    seconds = time.process_time() - started
    print(seconds, len(found), sum(len(record.boxes) for record in found.records), flush=True)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--against", type=Path, required=True, metavar="DIR", help="another checkout")
    parser.add_argument("--annotations", type=int, default=100_000, metavar="N")
    parser.add_argument("--images", type=int, default=14_000, metavar="N", help="COCO has 7 boxes in one")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument(
        "--voc-share", type=float, default=0.1, help="share of the images that are read as VOC"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        boxes = _write(root, options.images, options.annotations, options.voc_share)
        print(
            json.dumps({form: _race(form, root, options, boxes[form]) for form in ("coco", "voc")}, indent=2)
        )


def _write(root: Path, images: int, annotations: int, voc_share: float) -> dict[str, int]:
    """Write files of both formats; return the number of boxes in each."""
    draw = random.Random(0)
    for name in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / name).mkdir(parents=True)
    entries = [
        {"id": 1 + 3 * number, "file_name": f"{number:012}.jpg", "width": 640, "height": 480}
        for number in range(images)
    ]
    objects = []
    for number in range(annotations):
        x, y = round(draw.uniform(0, 600), 2), round(draw.uniform(0, 440), 2)
        width, height = round(draw.uniform(5, 640 - x), 2), round(draw.uniform(5, 480 - y), 2)
        objects.append(
            {
                "id": number + 1,
                "image_id": 1 + 3 * draw.randrange(images),
                "category_id": draw.randrange(1, 81),
                "bbox": [x, y, width, height],
                "area": round(width * height / 2, 3),
                "iscrowd": 0,
            }
        )
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, 81)]
    content = {"images": entries, "annotations": objects, "categories": categories}
    (root / "train.json").write_text(json.dumps(content))
    for entry in entries:
        (root / "JPEGImages" / entry["file_name"]).touch()
    of_image: dict[int, list[str]] = {}
    for entry in objects:
        x, y, width, height = entry["bbox"]
        of_image.setdefault(entry["image_id"], []).append(
            "<object><name>class "
            f"{entry['category_id']}</name><pose>Left</pose><difficult>0</difficult><bndbox>"
            f"<xmin>{x}</xmin><ymin>{y}</ymin><xmax>{x + width:.2f}</xmax><ymax>{y + height:.2f}</ymax>"
            "</bndbox></object>"
        )
    chosen = entries[: int(images * voc_share)]
    for entry in chosen:
        stem = entry["file_name"][:-4]
        (root / "Annotations" / f"{stem}.xml").write_text(
            f"<annotation><filename>{entry['file_name']}</filename><size><width>640</width><height>480</height>"
            f"</size>{''.join(of_image.get(entry['id'], []))}</annotation>"
        )
    (root / "ImageSets/Main/train.txt").write_text("".join(f"{e['file_name'][:-4]}\n" for e in chosen))
    return {"coco": annotations, "voc": sum(len(of_image.get(entry["id"], [])) for entry in chosen)}


def _race(form: str, root: Path, options: argparse.Namespace, boxes: int) -> dict[str, object]:
    """Seconds of both checkouts, taking turns in each round."""
    lanes = {"this": _start(form, root, _REPOSITORY), "other": _start(form, root, options.against)}
    seconds: dict[str, list[float]] = {name: [] for name in lanes}
    for number in range(options.rounds + 1):
        for name in list(lanes)[:: -1 if number % 2 else 1]:  # neither is always first
            spent, _, found = _turn(lanes[name])
            if int(found) != boxes:
                raise SystemExit(f"{name}: read {found} boxes of {boxes}")
            if number:  # the first one warms up
                seconds[name].append(float(spent))
    for lane in lanes.values():
        lane.stdin.close()
        lane.wait()
    ratios = [mine / theirs for mine, theirs in zip(seconds["this"], seconds["other"], strict=True)]
    return {
        "boxes": boxes,
        **{name: round(statistics.median(of_name), 4) for name, of_name in seconds.items()},
        "ratio": [round(quartile, 3) for quartile in statistics.quantiles(ratios)],
    }


def _start(form: str, root: Path, checkout: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(checkout.resolve())}
    return subprocess.Popen(
        [sys.executable, "-c", _READ, form, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _turn(lane: subprocess.Popen[str]) -> list[str]:
    lane.stdin.write("go\n")
    lane.stdin.flush()
    return lane.stdout.readline().split()


if __name__ == "__main__":
    main()
