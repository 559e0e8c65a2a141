"""What prompts begin with alike, and copies of the caches for it, so that it is read once.

A prompt is compared token by token, an image by the digest of its photo. It runs no graph.
"""

from collections import OrderedDict
from collections.abc import Sequence

from appliance.medgemma.kv_cache import KvSnapshot
from appliance.medgemma.prompt import Prompt

PromptKey = int | str
"""A token id; for a soft token of an image, the SHA-256 of the photo."""


def prompt_keys(prompt: Prompt, digests: Sequence[str]) -> list[PromptKey]:
    """Name every token of a prompt by what the cache would hold for it.

    Args:
        prompt: The prompt.
        digests: Lower-case hexadecimal SHA-256 of each of its photos, in order.
    """
    keys: list[PromptKey] = list(prompt.token_ids)
    for (start, end), digest in zip(prompt.image_spans, digests, strict=True):
        keys[start:end] = [digest] * (end - start)
    return keys


def common_length(left: Sequence[PromptKey], right: Sequence[PromptKey]) -> int:
    """Count the tokens that both begin with."""
    for index, (one, other) in enumerate(zip(left, right, strict=False)):
        if one != other:
            return index
    return min(len(left), len(right))


class PrefixStore:
    """Copies of the beginnings of prompts, the least recently used forgotten first."""

    def __init__(self, size_bytes: int) -> None:
        """Keep at most `size_bytes` of copies; 0 keeps none."""
        self._size_bytes = size_bytes
        self._kept: OrderedDict[tuple[PromptKey, ...], KvSnapshot] = OrderedDict()

    @property
    def kept_bytes(self) -> int:
        """Memory that the copies take."""
        return sum(snapshot.size_bytes for snapshot in self._kept.values())

    def keep(self, keys: tuple[PromptKey, ...], snapshot: KvSnapshot) -> None:
        """Add a copy; one that is larger than the whole store is not kept."""
        if snapshot.size_bytes > self._size_bytes:
            return
        self._kept[keys] = snapshot
        self._kept.move_to_end(keys)
        while self.kept_bytes > self._size_bytes:
            self._kept.popitem(last=False)

    def longest(self, keys: Sequence[PromptKey]) -> tuple[tuple[PromptKey, ...], KvSnapshot | None]:
        """Return the longest kept beginning of `keys` and its copy; nothing and `None` where there is none."""
        wanted = tuple(keys)
        found = [kept for kept in self._kept if kept == wanted[: len(kept)]]
        if not found:
            return (), None
        best = max(found, key=len)
        self._kept.move_to_end(best)
        return best, self._kept[best]

    def clear(self) -> None:
        """Forget all copies."""
        self._kept.clear()
