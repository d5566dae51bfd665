"""An experiment's annotations, read as the steps read them: what is corrected, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

from detnas_nni.doctor.finding import Finding
from detnas_nni.errors import DataError

if TYPE_CHECKING:  # it needs pydantic, which may be what is missing
    from detnas_nni.config import Config

_NAME = "annotations"


def annotations(config: Config) -> list[Finding]:
    """What there is to say of each detection split, a finding a kind; every image file's header is read."""
    detection = config.data.detection
    if detection is None:
        return []
    try:
        from detnas_nni.data.splits import open_detection

        splits = open_detection(
            detection, config.seed, config.data.max_images, strict=config.data.strict, scan=True
        )
    except DataError as error:
        return [Finding(_NAME, "problem", str(error), "mend the data, or the key that the message names")]
    except ImportError as error:
        return [Finding(_NAME, "warning", f"cannot be read: {error}", "install the packages first")]
    found = [Finding(_NAME, "warning", line, "docs/data.md says how it is read") for line in splits.told()]
    return found or [Finding(_NAME, "ok", "nothing in them had to be corrected")]
