"""MedGemma on this machine: from a bundle to an answer, in one page.

It has no records, no network and no queue: one generation at a time, the caller decides whose.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from appliance.medgemma.bundle import Bundle
from appliance.medgemma.generation import Generation, GenerationOptions, Message, Piece
from appliance.medgemma.vision import ImageFeatures


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeOptions:
    """How to run a bundle on this machine."""

    threads: int | None = None
    """Compute threads; `None` is one a physical core that this process may use."""
    context_length: int | None = None
    """Tokens in the KV cache; `None` is 4096, or what the model allows if that is less."""
    prefill_chunk_tokens: int = 512
    """Prompt tokens in one run of the decoder; an image is never split, so a chunk may be longer."""
    feature_cache_images: int = 16
    """Photos whose features are kept."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"


class MedGemma:
    """A loaded model; a context manager. `encode_image` and `generate` may be called from different threads."""

    bundle: Bundle
    context_length: int
    load_s: float
    providers: tuple[str, ...]
    """The execution providers that the decoder's session really got."""

    @classmethod
    def load(cls, path: Path, options: RuntimeOptions | None = None) -> Self:
        """Check the bundle and open it.

        Raises:
            BundleError: The bundle is missing, damaged or does not open.
        """
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def encode_image(self, content: bytes) -> ImageFeatures:
        """Encode one photo, or return its features from the cache.

        Args:
            content: The bytes of a JPEG or PNG file.

        Raises:
            ImageError: The bytes are not a picture that this box reads.
            BundleError: The bundle takes text only.
        """
        raise NotImplementedError

    def check_prompt(self, messages: Sequence[Message]) -> int:
        """Count the prompt's tokens without running anything.

        Raises:
            PromptError: The prompt does not fit into the context, or the chat template refuses it.
        """
        raise NotImplementedError

    def generate(
        self, messages: Sequence[Message], options: GenerationOptions, *, cancel: threading.Event | None = None
    ) -> Iterator[Piece | Generation]:
        """Answer: pieces as they come, then exactly one `Generation` as the last item.

        Args:
            messages: The conversation, ending with the user's turn.
            options: How to generate.
            cancel: Once set, the run ends within one token, with finish reason `cancelled`.

        Raises:
            PromptError: As `check_prompt`; at the call, not at the first piece.
            ImageError: A photo is unreadable.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Free the sessions and the cache; the model cannot be used afterwards."""
        raise NotImplementedError
