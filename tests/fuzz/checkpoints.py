"""Files that torch saved, to mutate: their bytes, their header, and what is in them."""

from __future__ import annotations

import io
import re
import warnings
import zipfile
from collections import Counter, OrderedDict
from functools import cache
from random import Random
from typing import Any

import torch

from tests.fuzz.mutation import Pairs, mutate_bytes, mutate_tree


def saved(content: Any, zipped: bool = True) -> bytes:
    """What `torch.save` makes of it, in the format of today, or in that of 2019 around one storage."""
    file = io.BytesIO()
    torch.save(content, file, _use_new_zipfile_serialization=zipped)
    # In 2019 the name of a storage was its address, which is another one each time.
    return file.getvalue() if zipped else re.sub(rb"(?s)X...\0\d{8,20}", b"X\5\0\0\x0012345", file.getvalue())


def mutate_checkpoint(random: Random, data: bytes, other: bytes) -> bytes:
    """A file with other bytes, a whole archive around a header with other bytes, or other content."""
    change = random.random()
    if change < 0.3 or (change < 0.6 and not zipfile.is_zipfile(io.BytesIO(data))):
        return mutate_bytes(random, data, other)
    if change < 0.6:
        return _with_another_header(random, data, other)
    content = torch.load(io.BytesIO(data), weights_only=True)
    return saved(_untree(mutate_tree(random, _tree(content), _nasty(), _KEYS)))


def _with_another_header(random: Random, data: bytes, other: bytes) -> bytes:
    """The archive is whole and its checksums are right, so that the header comes to torch's reader."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(file, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            if entry.filename.endswith("data.pkl"):
                content = mutate_bytes(random, content, other)
            new.writestr(zipfile.ZipInfo(entry.filename), content)
    return file.getvalue()


def _tree(value: Any) -> Any:
    if isinstance(value, dict):
        return Pairs([key, _tree(item)] for key, item in value.items())
    return [_tree(item) for item in value] if isinstance(value, list) else value


def _untree(value: Any) -> Any:
    if isinstance(value, Pairs):
        return {key: _untree(item) for key, item in value}
    return [_untree(item) for item in value] if isinstance(value, list) else value


def _nested(depth: int) -> tuple:
    return (_nested(depth - 1),) if depth else ()


def _shared(depth: int) -> tuple:
    """2^depth tuples, of which `depth` are there."""
    if not depth:
        return (0,)
    half = _shared(depth - 1)
    return half, half


def _circle() -> OrderedDict:
    circle: OrderedDict = OrderedDict()
    circle["a"] = circle
    return circle


# As a key a tuple is hashed, so that those that are shared may be few here.
_KEYS = ("", "\0", "\ud800", "k" * 3000, 0, None, 1.5, (), ("a", 1), _shared(10), "format", "state", "info")

_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 2, 2**31, 2**70, 10**300, 10**5000, 0.5, float("nan"), float("inf"), 1j),
    *("", "\0", "\ud800", "x" * 70_000, "../../etc/passwd", "small", "resnet50", "this:s", "os:getcwd"),
    *(b"x", bytearray(3), {1, 2}, OrderedDict(a=1), Counter("aab"), _nested(300), _shared(40), _circle()),
    *([], [0] * 9, ["a"], Pairs(), Pairs([["a", 1]]), Pairs([["shuffle", [1]]]), Pairs([[1, 2]])),
    *(torch.Size((1, 2)), torch.device("cpu"), torch.float32),
)


@cache
def _nasty() -> tuple[Any, ...]:
    """What to put into a value's place."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what is new and of what is to go
        one = torch.ones(())
        tensors = (
            *(one, torch.ones(3), torch.ones(0), torch.ones(2, 3).t(), one.half(), one.to(torch.complex64)),
            *(torch.tensor(True), torch.tensor(float("nan")), torch.ones((), requires_grad=True)),
            *(one.expand(10**6, 10**6), one.expand(10**12, 256), torch.empty(3, device="meta")),
            *(one.to_sparse(), torch.ones(1, 1).to_sparse_csr(), torch.nn.Parameter(torch.ones(2))),
            *(torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), torch.FloatStorage(2)),
        )
    return (*_VALUES, *tensors)
