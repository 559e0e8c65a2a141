"""What the engine says beside the OpenAI fields: its health, and the `dermstation` object of every answer.

Both sides of the wire read these values from here. Unknown fields are ignored, so that an older station can talk to a
newer engine.
Source: `web/engine/DESIGN.md`.
"""

from typing import Final, Literal

import msgspec

from appliance.medgemma.bundle import Precision
from appliance.medgemma.generation import Generation

EngineStatus = Literal["loading", "ready", "failed"]
SelfTest = Literal["waiting", "running", "passed", "failed", "none"]
"""`none`: the bundle carries no golden answers. A model that is `ready` while this is `running` takes questions, and
answers them once it has passed."""

MODEL_ALIAS: Final = "dermstation"
"""Model name that means: whichever is loaded. The answer always carries its real name."""
COMPLETION_ID_PREFIX: Final = "chatcmpl-"
REQUEST_ID_PATTERN: Final = "[A-Za-z0-9_-]{1,64}"
"""What a client may choose in `X-Request-Id`; the completion's id is the prefix and this."""
KEEPALIVE_S: Final = 2.0
"""A stream says something at least this often; a client that hears nothing for much longer may give up."""

IMAGE_ERROR_CODE: Final = "invalid_image"
"""`error.code` when a photo is the cause; every other refusal with 4xx is about the prompt or the options."""


class ModelSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Which model answers."""

    name: str
    sha256: str
    """Digest of `bundle.json`: the identity of the model."""
    warning: str | None = None
    """A sentence to be shown beside every answer."""
    precision: Precision
    context_length: int
    takes_images: bool


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """How busy the engine is."""

    running: int
    waiting: int
    limit: int
    """Jobs that may wait; one more is refused."""


class EngineHealth(msgspec.Struct, frozen=True, kw_only=True):
    """The body of `/health`."""

    status: EngineStatus
    model: ModelSummary | None = None
    providers: tuple[str, ...] = ()
    """What runs nodes of the decoder and the vision tower, the one with most of them first."""
    placement: dict[str, int] = {}
    """Nodes of both by execution provider; what OpenVINO runs by itself, under its name."""
    self_test: SelfTest = "none"
    memory: str | None = None
    """What was decided about memory, in one sentence."""
    queue: QueueState
    error: str | None = None
    """One sentence when the status is `failed`."""
    version: str
    load_s: float | None = None
    uptime_s: float


class AnswerExtension(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The `dermstation` object of a response or of a stream's chunk."""

    warning: str | None = None
    model_sha256: str | None = None
    token_ids: tuple[int, ...] = ()
    """Tokens of this chunk's text."""
    generation: Generation | None = None
    """The whole run with its exact finish reason, thought and timings; in the last chunk only."""


class EncodedImage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of an answer to `POST /v1/images`."""

    sha256: str
    tokens: int
    """Image soft tokens that the photo becomes."""
    vision_s: float
    read_ahead_tokens: int = 0
    """Tokens that a prompt which begins with this photo need not wait for."""
