"""The errors that a user can mend: each names the file, the key and the value, and what was expected.

`detnas` prints the message alone, without a traceback, and exits with `exit_status`.
"""


class DetNASError(Exception):
    """The base of every error that the package raises for a user to read."""

    exit_status = 1


class UsageError(DetNASError):
    """The call itself is wrong: an option, an argument, a name."""

    exit_status = 2


class ConfigError(UsageError):
    """A config file has an unknown key, a wrong type, a value out of range."""


class DataError(DetNASError):
    """Images or annotations are missing, damaged or contradict the config."""


class ArchitectureError(DetNASError):
    """An architecture does not belong to its space, or its file is damaged."""


class CheckpointError(DetNASError):
    """A checkpoint is missing, damaged, or of another space, detector or step."""


class ConstraintError(DetNASError):
    """No architecture of the space meets the constraint."""


class EvaluationError(DetNASError):
    """A candidate could not be evaluated."""


class LatencyError(DetNASError):
    """A latency table is missing, damaged, or of another space."""


class AuditError(DetNASError):
    """An audit cannot be made of what the search's folder holds, or the folder holds another audit."""


def too_long(seconds: float) -> str:
    """What is said of an evaluation that its time limit has ended."""
    return f"it took longer than search.max_trial_seconds ({seconds:g} s)"
