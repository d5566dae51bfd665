"""Files of tensors: written, read without running any code in them, and loaded into nets."""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor, nn

from detnas_nni.errors import CheckpointError
from detnas_nni.util.interrupts import interrupts_wait


def write_tensors(file: Path, content: Any) -> None:
    """`torch.save` that raises the disk's own errors. Raises OSError."""
    try:
        # As a stream: torch writes a file's name into the file, but equal weights should have equal hashes.
        # Its writer then calls back into Python from C++, where an interrupt cannot be raised.
        with interrupts_wait(), file.open("wb") as stream:
            torch.save(content, stream)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch raises its own error instead of the disk's
            raise error.__context__ from None
        raise


def load_tensors(path: Path) -> dict[str, Any]:
    """A dict that torch saved: only tensors and plain values, never code. Raises CheckpointError."""
    try:
        expect_tensors_alone(path)
        # The format of 2019, still used by published weights, cannot be memory-mapped.
        mapped = zipfile.is_zipfile(path)
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (
        Exception
    ) as error:  # damaged bytes make torch's reader raise anything, even KeyError and struct.error
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: cannot be read as a checkpoint: {reason}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: expected a dict of tensors, found {type(content).__name__}")
    return content


def check_fit(net: nn.Module, state: Mapping[str, Tensor], source: Path, whose: str) -> None:
    """Raise CheckpointError unless a state dict fits a net (or an unfixed model space), name by name."""
    expected = net.state_dict()
    for name in sorted(expected.keys() | state.keys()):
        needed, found = (_form(tensors.get(name)) for tensors in (expected, state))
        if needed != found:
            raise CheckpointError(
                f"{source}: the weights do not fit {whose}: {name} is {found} in them, and {needed} there; "
                "they belong to other settings or another net, or the file is damaged"
            )


def fill(
    net: nn.Module,
    state: Mapping[str, Tensor],
    source: Path,
    whose: str = "the config's net",
    *,
    assign: bool = False,
) -> None:
    """Copy weights into a net; every step that loads weights does it here.

    Args:
        net: the net; all its parameters and buffers are replaced.
        state: a state dict with the same names, shapes and types.
        source: the file that it comes from, for messages.
        whose: what the net is, for messages.
        assign: whether the copies become the net's own tensors, as a net on the meta device needs.

    Raises:
        CheckpointError: they do not fit.
    """
    check_fit(net, state, source, whose)
    if assign:
        state = {name: tensor.clone() for name, tensor in state.items()}
    net.load_state_dict(state, assign=assign)


def _form(tensor: Tensor | None) -> str:
    return "missing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}".removeprefix("torch.")


_HEADER_LIMIT = 64_000_000  # bytes; the largest supernet's has 0.6 MB

# What state dicts and training states are made of, apart from plain values: nothing that computes or copies.
_HARMLESS = re.compile(
    r"collections (OrderedDict|Counter)|(builtins|__builtin__) set|torch (Size|device|\w+Storage)|"
    r"torch\._utils _rebuild_(tensor|tensor_v2|parameter)"
)
# Each may double the time that it takes to hash a key of the dict; state dicts share none.
_SHARED_TUPLES = 20


def expect_tensors_alone(file: Path) -> None:
    """Raise ValueError, OSError or zipfile.BadZipFile unless a file looks like tensors and plain values.

    A check before torch loads it. `torch.load(weights_only=True)` runs none of a file's code. But it unpacks
    compressed data, calls functions that make gigabytes out of a number, such as `bytearray`, and follows
    shared references to any depth. No file of weights needs any of that.

    Args:
        file: what `torch.save` wrote, in its current format (a zip file) or that of 2019.
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
    """Read the instructions of a pickle without executing any."""
    tuples: set[int] = set()  # memo slots from which they may be taken again
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
