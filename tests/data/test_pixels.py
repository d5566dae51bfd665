"""More than 8 bits a value: scaled by one rule, for training, crops and use alike, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detnas_nni.data.coco import read_coco
from detnas_nni.data.crops import write_crops
from detnas_nni.data.headers import read_header
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.reading import Conventions
from tests.data.scenes import coco_of, told, write_json

GREY = np.random.default_rng(0).integers(0, 256, (30, 40), dtype=np.uint8)


def saved(file: Path, values: np.ndarray, **options: object) -> Path:
    Image.fromarray(values).save(file, **options)
    return file


@pytest.mark.parametrize("factor", [256, 257])
@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "<u2"), ("a.tif", "<u2"), ("a.tif", ">u2"), ("a.tif", "<i4")]
)
def test_sixteen_bits_keep_their_grey(tmp_path: Path, name: str, kind: str, factor: int) -> None:
    file = saved(tmp_path / name, (GREY.astype(np.int64) * factor).astype(kind))
    assert read_header(file).wide
    for pixels in (read_image(file), read_image(file, (40, 30)), read_image(file, upright=True)):
        np.testing.assert_array_equal(pixels.numpy(), np.stack([GREY] * 3))


def test_sixteen_bits_a_colour_are_scaled_alike(tmp_path: Path) -> None:
    """Pillow writes none, so the file is a PNG by hand: one row of 16-bit RGB."""
    import struct
    import zlib

    colours = np.array([[[0, 128, 255], [7, 70, 200]]], dtype=np.uint16) * 257

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    rows = zlib.compress(b"\0" + colours.astype(">u2").tobytes())
    file = tmp_path / "a.png"
    file.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )
    assert read_image(file).permute(1, 2, 0).tolist() == [[[0, 128, 255], [7, 70, 200]]]


def test_a_dark_picture_stays_dark_beside_a_bright_one(tmp_path: Path) -> None:
    """The range is the type's, not each file's."""
    dark = read_image(saved(tmp_path / "dark.png", np.full((8, 8), 10 * 257, dtype=np.uint16)))
    bright = read_image(saved(tmp_path / "bright.png", np.full((8, 8), 200 * 257, dtype=np.uint16)))
    assert (dark.unique().tolist(), bright.unique().tolist()) == ([10], [200])


def test_twelve_bits_and_white_as_zero_are_read_as_the_tiff_says(tmp_path: Path) -> None:
    inverted = saved(tmp_path / "x.tif", (255 - GREY).astype(np.uint16) * 257)
    content = bytearray(inverted.read_bytes())
    at = content.index(b"\x06\x01\x03\x00\x01\x00\x00\x00\x01")  # PhotometricInterpretation: black is zero
    content[at + 8] = 0
    inverted.write_bytes(content)
    np.testing.assert_array_equal(read_image(inverted)[0].numpy(), GREY)
    packed = tmp_path / "y.tif"
    values = GREY.astype(np.uint16) << 4
    pairs = values.reshape(-1, 2)
    data = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], axis=1)
    packed.write_bytes(_tiff_of_twelve_bits(data.astype(np.uint8).tobytes(), 40, 30))
    np.testing.assert_array_equal(read_image(packed)[0].numpy(), GREY)


def _tiff_of_twelve_bits(data: bytes, width: int, height: int) -> bytes:
    import struct

    tags = {256: width, 257: height, 258: 12, 259: 1, 262: 1, 273: 0, 277: 1, 278: height, 279: len(data)}
    start = 8 + 2 + 12 * len(tags) + 4
    tags[273] = start
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + struct.pack("<I", 0) + data


@pytest.mark.parametrize("scale", [1, 255])
def test_floats_within_one_or_within_255_are_read(tmp_path: Path, scale: int) -> None:
    file = saved(tmp_path / "a.tif", (GREY / 255 * scale).astype(np.float32))
    np.testing.assert_array_equal(read_image(file)[0].numpy(), GREY)


@pytest.mark.parametrize(
    ("values", "mode"),
    [
        (GREY.astype(np.float32) * 7, "F"),
        (-GREY.astype(np.float32), "F"),
        (np.full((8, 8), np.nan, dtype=np.float32), "F"),
        (-GREY.astype(np.int32), "I"),
        (GREY.astype(np.int32) * 70_000, "I"),
    ],
)
def test_values_of_an_unknown_range_are_refused_by_their_mode(
    tmp_path: Path, values: np.ndarray, mode: str
) -> None:
    with pytest.raises(BadImageError, match=f"has the mode {mode} with values from .* save it with 8 bits"):
        read_image(saved(tmp_path / "a.tif", values))


def test_training_images_and_crops_have_the_grey_of_the_picture(tmp_path: Path) -> None:
    values = np.full((60, 80), 200 * 257, dtype=np.uint16)
    values[10:40, 20:60] = 70 * 257
    (tmp_path / "images").mkdir()
    saved(tmp_path / "images/a.png", values)
    content = coco_of([{"id": 1, "file_name": "a.png", "width": 80, "height": 60}], [[(20, 10, 40, 30)]])
    file = write_json(tmp_path / "a.json", content)
    images = read_coco(tmp_path / "images", file, conventions=Conventions(scan=True))
    assert told(images, "wide values") == 1
    write_crops(images, tmp_path / "crops", seed=0, margin=0.0)
    (crop,) = (tmp_path / "crops/red").iterdir()
    grey = np.asarray(Image.open(crop).convert("L"))
    assert grey.shape == (30, 40) and abs(grey.astype(int) - 70).max() <= 2


def test_what_a_library_warns_of_has_the_files_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    palette = Image.fromarray(np.random.default_rng(1).integers(0, 4, (8, 8), dtype=np.uint8), "P")
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
    palette.save(tmp_path / "pal.png", transparency=bytes([0, 100, 200, 255]))
    read_image(tmp_path / "pal.png")
    read_image(tmp_path / "pal.png")
    (record,) = (record for record in caplog.records if "pal.png" in record.getMessage())
    assert "Palette images with Transparency" in record.getMessage()
