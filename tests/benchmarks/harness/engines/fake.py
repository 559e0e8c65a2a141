"""An engine without a model, for the tests of the harness: it counts, and fails when it is told to."""

from collections.abc import Iterator
from typing import Any, Final

from harness.engine import Order

LATE_S: Final = 3600.0
"""What it says of the prompt `encode late` that the photo took: more than any machine's delay."""


class Fake:
    """Writes 0, 1, 2 and so on."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting
        self._photo = b""
        self.prompt_tokens = 0
        self.constraint_s = 0.0
        self.late_image_s = 0.0

    def facts(self) -> dict[str, Any]:
        """Say what `load` was told."""
        return {"version": self._greeting, "model": "none", "weight_bytes": 1_000_000, "disk_bytes": 2_000_000}

    def encode(self, photo: bytes) -> None:
        """Keep the photo."""
        self._photo = photo

    def settle(self) -> None:
        """Do nothing."""

    def read_ahead(self) -> None:
        """Do nothing."""

    def stream(self, order: Order) -> Iterator[int]:
        """Count; the prompts `fail`, `end early`, `encode late` and `die` do what they say."""
        print("a library's chatter")
        if order.prompt == "fail":
            raise ValueError("as told")
        if order.prompt == "die":
            raise SystemExit(3)
        if order.prompt == "encode late":
            self.late_image_s = LATE_S
        self.prompt_tokens = len(order.prompt.split()) + len(self._photo)
        yield from range(order.tokens - (order.prompt == "end early"))


def load(*, greeting: str) -> Fake:
    """Make one."""
    return Fake(greeting)
