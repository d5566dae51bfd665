"""A look into a file of tensors before torch loads it.

`torch.load(weights_only=True)` runs none of a file's code. But it unpacks what is compressed, calls functions
that make gigabytes out of a number, such as `bytearray`, and takes what is shared as far as it goes. No file
of weights needs any of that.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from pathlib import Path
from typing import BinaryIO

_HEADER_LIMIT = 64_000_000  # bytes; that of the largest supernet has 0.6 MB

# What state dicts and training states are made of, apart from plain values: nothing that computes or copies.
_HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) set|torch (Size|device|\w+Storage)|"
    r"torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
)
# Each may double the time that a key of the dict takes to be hashed; state dicts share none.
_SHARED_TUPLES = 20


def expect_tensors_alone(file: Path) -> None:
    """Raise ValueError, OSError or zipfile.BadZipFile unless a file looks like tensors and plain values.

    Args:
        file: what `torch.save` wrote, in its format of today (a zip file) or that of 2019.
    """
    with file.open("rb") as stream:
        if stream.read(4) == b"PK\3\4":
            _check_archive(stream)
            return
        stream.seek(0)
        for _ in range(5):  # magic number, version, system, content, storages; the numbers come after them
            _check_header(stream)


def _check_archive(stream: BinaryIO) -> None:
    with zipfile.ZipFile(stream) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
                raise ValueError(f"{entry.filename} in it is compressed, and torch compresses nothing")
            if entry.filename.endswith(".pkl"):
                if entry.file_size > _HEADER_LIMIT:
                    raise ValueError(f"{entry.filename} in it has {entry.file_size:,} bytes, too many")
                _check_header(archive.read(entry))


def _check_header(header: bytes | BinaryIO) -> None:
    """Read the instructions of a pickle, without following any."""
    tuples: set[int] = set()  # where they are kept, to be taken again
    tuple_on_top, shared = False, 0
    for opcode, argument, _ in pickletools.genops(header):
        if opcode.name == "GLOBAL" and not _HARMLESS.fullmatch(argument):
            raise ValueError(f"it calls {argument.replace(' ', '.')}, which no file of tensors needs")
        if opcode.name in ("BINPUT", "LONG_BINPUT"):
            (tuples.add if tuple_on_top else tuples.discard)(argument)
        elif opcode.name in ("BINGET", "LONG_BINGET"):
            tuple_on_top = argument in tuples
            shared += tuple_on_top
        elif opcode.name != "PROTO":
            tuple_on_top = opcode.name.startswith("TUPLE")
        if shared > _SHARED_TUPLES:
            raise ValueError(f"more than {_SHARED_TUPLES} tuples in it are shared, as in no state dict")
