"""Token ids to text as they come, never half a character.

The pieces joined are exactly what decoding all ids at once gives. Two things make that hold: text is cut out of a
window that starts at the last safe place, because a token's text may depend on its left neighbour; and a run of byte
tokens is held back until it ends, because `tokenizers` turns the *whole* run into U+FFFD if any of it is not UTF-8.
"""

from collections.abc import Collection, Sequence
from typing import Protocol

_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class Decodes(Protocol):
    """What turns ids into text."""

    @property
    def byte_token_ids(self) -> Collection[int]:
        """Ids that stand for a single byte."""

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of all the ids."""


class Detokenizer:
    """The text of one growing sequence of tokens."""

    def __init__(self, tokenizer: Decodes) -> None:
        self._tokenizer = tokenizer
        self._window: list[int] = []
        self._told = 0
        """Tokens at the head of the window whose text is out already; they are context for the rest."""

    def push(self, token_id: int) -> str:
        """Add one token and return the text that is now certain; empty while a character is incomplete."""
        self._window.append(token_id)
        # A token without text (a special one) does not end a run: the library joins the bytes on its two sides.
        if token_id in self._tokenizer.byte_token_ids or not self._tokenizer.decode([token_id]):
            return ""
        text = self._untold()
        # Byte-level vocabularies have no byte tokens to look for: there an incomplete character ends in U+FFFD.
        if text.endswith(_REPLACEMENT):
            return ""
        self._tell()
        return text

    def flush(self) -> str:
        """Return what is still held back; an incomplete character is U+FFFD, as nothing more will come."""
        text = self._untold()
        self._tell()
        return text

    def _untold(self) -> str:
        known = self._tokenizer.decode(self._window[: self._told])
        return self._tokenizer.decode(self._window)[len(known) :]

    def _tell(self) -> None:
        self._window = self._window[self._told :]
        self._told = len(self._window)
