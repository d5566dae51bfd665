"""JPEG by torchvision's decoder: Pillow's pixels to the bit, and Pillow's refusals."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional

from detnas_nni.data import images, jpeg
from detnas_nni.data.images import BadImageError, read_image


def photo(width: int = 67, height: int = 45, mode: str = "RGB", **options) -> bytes:
    """Half smooth, half noise."""
    rng = np.random.default_rng(width * height)
    pixels = np.kron(rng.integers(0, 256, (-(-height // 9), -(-width // 9), 3)), np.ones((9, 9, 1)))
    pixels = pixels[:height, :width] + rng.normal(0, 20, (height, width, 3)) * (np.arange(width) % 2)[:, None]
    stream = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def by_pillow(data: bytes) -> torch.Tensor:
    with Image.open(io.BytesIO(data)) as image:
        return functional.pil_to_tensor(image.convert("RGB"))


@pytest.fixture
def read(tmp_path):
    """read(data): what `read_image` makes of a file of these bytes."""

    def read(data: bytes) -> torch.Tensor:
        (tmp_path / "image.jpg").write_bytes(data)
        return read_image(tmp_path / "image.jpg")

    return read


@pytest.fixture
def pillow_alone(monkeypatch):
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)


def test_here_torchvision_decodes_as_pillow_does():
    assert jpeg._decoder() is not None


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize(("width", "height"), [(1, 1), (17, 3), (67, 45), (320, 240)])
def test_the_pixels_are_pillows_to_the_bit(read, width, height, subsampling, progressive):
    for quality in (30, 75, 95):
        data = photo(width, height, quality=quality, subsampling=subsampling, progressive=progressive)
        assert (
            jpeg.decode_jpeg(torch.frombuffer(bytearray(data), dtype=torch.uint8), (width, height))
            is not None
        )
        assert torch.equal(read(data), by_pillow(data))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_grey_and_print_colours_become_rgb_as_by_pillow(read, mode):
    assert torch.equal(read(photo(mode=mode)), by_pillow(photo(mode=mode)))


def test_without_the_decoder_the_pixels_are_the_same(read, pillow_alone):
    assert torch.equal(read(photo()), by_pillow(photo()))


def test_a_decoder_that_rounds_otherwise_is_left_out(read, monkeypatch):
    monkeypatch.setattr(jpeg, "_by_pillow", lambda data: by_pillow(data) ^ 1)
    jpeg._decoder.cache_clear()
    try:
        assert jpeg._decoder() is None
        assert torch.equal(read(photo()), by_pillow(photo()))
    finally:
        jpeg._decoder.cache_clear()


def test_a_plain_header_states_the_size_and_any_other_is_left_to_pillow():
    for options in ({}, {"progressive": True}, {"mode": "L"}, {"comment": b"no more"}):
        assert jpeg.header_size(photo(320, 240, **options)) == (320, 240)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    for data in (photo(exif=exif), photo(icc_profile=b"colours"), photo(mode="CMYK"), b"\xff\xd8", b"BM6"):
        assert jpeg.header_size(data) is None


def test_pillow_is_not_asked_about_a_plain_file_of_any_length(read, monkeypatch):
    plain = [photo(), photo(900, 700, quality=95)]
    expected = [by_pillow(data) for data in plain]
    assert jpeg._decoder() is not None  # compares itself with Pillow, once
    monkeypatch.setattr(images.Image, "open", None)
    assert len(plain[0]) < images._HEADER < len(plain[1])
    assert all(torch.equal(read(data), pixels) for data, pixels in zip(plain, expected, strict=True))


@pytest.mark.parametrize("stated", [(45, 67), (66, 45)])
def test_a_plain_file_of_another_size_than_annotated_is_bad(tmp_path, stated):
    (tmp_path / "image.jpg").write_bytes(photo())
    with pytest.raises(BadImageError, match=f"is 67x45 pixels, its annotation says {stated[0]}x{stated[1]}"):
        read_image(tmp_path / "image.jpg", stated)


def test_damaged_files_give_the_same_pixels_or_the_same_reason(read, monkeypatch):
    draw = random.Random(0)
    seeds = [photo(), photo(progressive=True), photo(mode="L"), photo(subsampling="4:4:4")]

    def damaged() -> bytes:
        data = bytearray(draw.choice(seeds))
        at = draw.randrange(len(data))
        kind = draw.randrange(3)
        if kind == 0:
            return bytes(data[:at])
        data[at : at + (kind == 1) * draw.randrange(9)] = draw.randbytes(draw.randrange(5))
        return bytes(data)

    def outcome(data: bytes) -> torch.Tensor | str:
        try:
            return read(data)
        except BadImageError as error:
            return str(error)

    files = [damaged() for _ in range(300)]
    found = [outcome(file) for file in files]
    monkeypatch.setattr(jpeg, "_decoder", lambda: None)
    for file, mine in zip(files, found, strict=True):
        pillows = outcome(file)
        assert torch.equal(mine, pillows) if isinstance(mine, torch.Tensor) else mine == pillows
    assert 50 < sum(isinstance(mine, str) for mine in found) < 250


def test_gigabytes_behind_a_small_image_are_not_read(tmp_path, monkeypatch):
    file = tmp_path / "image.jpg"
    file.write_bytes(photo())
    with file.open("r+b") as stream:
        stream.truncate(2**34)
    monkeypatch.setattr(images, "decode_jpeg", None)
    assert torch.equal(read_image(file), by_pillow(photo()))
