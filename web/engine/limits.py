"""How much one client may ask of the engine; the defaults fit a clinic's questions with room to spare."""

from dataclasses import dataclass
from typing import Self

from appliance.config import EngineConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineLimits:
    """Bounds on requests; what exceeds one is refused with a 4xx that names it."""

    queue_limit: int = 4
    """Jobs that may wait behind the running one."""
    deadline_s: float = 120.0
    """Longest run of one generation; a client may ask for less."""
    max_body_bytes: int = 64 << 20
    max_images: int = 16
    max_messages: int = 256
    max_text_characters: int = 1 << 20
    """Of all messages together: eight times what the longest context holds."""
    max_schema_bytes: int = 64 << 10
    max_schema_depth: int = 32

    @classmethod
    def from_config(cls, config: EngineConfig) -> Self:
        """Take over what the settings say."""
        return cls(
            queue_limit=config.queue_limit,
            deadline_s=config.deadline_s,
            max_body_bytes=config.max_body_bytes,
            max_images=config.max_images,
        )
