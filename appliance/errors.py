"""The root of every error that the appliance raises on purpose.

Each leaf says what, which, limit and got in one sentence a technician can act on; the facts are attributes too.
It does not know about screens: `message_key` names the sentence that a face of the box translates.
"""

from typing import ClassVar


class DermstationError(Exception):
    """Something went wrong that has a one-sentence explanation; `str(error)` is that sentence."""

    message_key: ClassVar[str] = "error.internal"
    exit_code: ClassVar[int] = 1
    """Process exit status when a command ends with this error (sysexits.h where one fits)."""


class ConfigurationError(DermstationError):
    """A setting is unknown, of the wrong type or out of range."""

    message_key = "error.configuration"
    exit_code = 78  # EX_CONFIG


class BundleError(DermstationError):
    """A model bundle is missing, damaged, foreign or not allowed to load."""

    message_key = "error.bundle"
    exit_code = 65  # EX_DATAERR


class ImageError(DermstationError):
    """An image is unreadable, of a foreign format or over a limit."""

    message_key = "error.image"
    exit_code = 66  # EX_NOINPUT


class PromptError(DermstationError):
    """A prompt cannot be run: too long for the context, or of a shape the model does not know."""

    message_key = "error.prompt"
    exit_code = 64  # EX_USAGE


class EngineUnavailableError(DermstationError):
    """The engine process does not answer, is loading, or refuses for now."""

    message_key = "error.engine_unavailable"
    exit_code = 69  # EX_UNAVAILABLE


class CameraError(DermstationError):
    """The camera gives no usable frame."""

    message_key = "error.camera"
    exit_code = 74  # EX_IOERR
