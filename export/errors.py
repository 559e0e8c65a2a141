"""What can go wrong while a checkpoint becomes a bundle; each leaf is one sentence and one exit code."""

from typing import ClassVar

from appliance.errors import DermstationError


class ExportError(DermstationError):
    """The export did not happen; no bundle was left behind."""

    message_key: ClassVar[str] = "error.export"


class CheckpointError(ExportError):
    """The checkpoint is missing, damaged or contradicts its own configuration."""

    exit_code = 65  # EX_DATAERR


class UnsupportedCheckpointError(CheckpointError):
    """The checkpoint is sound, but asks for something that the graphs do not do."""


class DownloadError(ExportError):
    """The checkpoint cannot be fetched from the hub: offline, gated or unknown."""

    exit_code = 69  # EX_UNAVAILABLE


class StorageError(ExportError):
    """The bundle cannot be written: full disk, file too large, no permission."""

    exit_code = 74  # EX_IOERR


class TargetExistsError(ExportError):
    """Something already stands where the bundle should go."""

    exit_code = 73  # EX_CANTCREAT


class ParityError(ExportError):
    """The bundle does not do what its checkpoint does; the figures are in its manifest."""
