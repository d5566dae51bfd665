"""Reading folders and JSON with errors that a user can act on."""

import errno
import json
import stat
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from detnas_nni.errors import DataError

MAX_JSON_BYTES = 2**31
"""More than four times COCO's largest file, instances_train2017.json; Python needs several times as much."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


def leaves_folder(name: str) -> bool:
    """Whether a relative file name from an annotation would lead out of the folder it belongs in.

    Links inside the folder are the user's own doing and are followed: image sets are often trees of links.
    """
    if "/" not in name and "\\" not in name and ":" not in name:
        return name == ".."  # nearly all names are plain, and paths are slow
    windows = PureWindowsPath(name)
    return bool(windows.drive or windows.root) or ".." in windows.parts or PurePosixPath(name).is_absolute()


def read_bytes(file: Path, limit: int) -> bytes:
    """The content of a file that comes with a data set.

    Raises:
        OSError: it cannot be read, has more than `limit` bytes, or is not a file: a pipe would not end.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is no file")
    if status.st_size > limit:
        raise OSError(errno.EFBIG, f"it has {status.st_size:,} bytes, more than {limit:,}")
    return file.read_bytes()


def read_json_object(file: Path, keys: Sequence[str]) -> dict:
    """Read a JSON object that has a list under each of `keys`.

    Raises:
        DataError: the file is missing, not JSON, not an object, or a key is missing or not a list.
    """
    try:
        content = json.loads(read_bytes(file, MAX_JSON_BYTES))
    except OSError as error:
        raise DataError(
            f"{file}: cannot be read ({error.strerror}); expected a COCO annotation file."
        ) from None
    except RecursionError:
        raise DataError(f"{file}: is nested too deeply to be a COCO annotation file.") from None
    except ValueError as error:  # bad JSON, bad UTF-8, an integer with thousands of digits
        raise DataError(f"{file}: is not JSON ({error}); expected a COCO annotation file.") from None
    if not isinstance(content, dict):
        raise DataError(
            f"{file}: holds a {type(content).__name__}, expected a JSON object with the keys "
            f"{', '.join(keys)}."
        )
    for key in keys:
        if key not in content:
            raise DataError(f"{file}: lacks the key `{key}`; expected the keys {', '.join(keys)}.")
        if not isinstance(content[key], list):
            raise DataError(f"{file}: `{key}` is a {type(content[key]).__name__}, expected a list.")
    return content
