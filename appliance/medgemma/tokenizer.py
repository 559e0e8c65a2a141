"""Text to token ids and back, with a hard line between text and control tokens.

Control tokens steer the model (turns, images, thought, end). They come out of `encode` only where the caller wrote
them, and never out of `encode_text`: what a person types is text, whatever it spells.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import tokenizers

from appliance.errors import BundleError, PromptError
from appliance.medgemma.spec import TokenSpec

_TURN_TOKENS: Final = ("<start_of_turn>", "<end_of_turn>")
_RESERVED_TOKEN: Final = re.compile(r"<unused\d+>")
"""Reserved places in Gemma's vocabulary; MedGemma 1.5 gave two of them the meaning of thought."""


class Tokenizer:
    """A bundle's `tokenizer.json`."""

    def __init__(self, tokenizer: tokenizers.Tokenizer, tokens: TokenSpec) -> None:
        """Take over a tokenizer; `from_file` is the usual way in.

        Args:
            tokenizer: The library's; not to be used by anyone else afterwards.
            tokens: The ids that steer the model.

        Raises:
            BundleError: It lacks an id that `tokens` names.
        """
        self._tokenizer = tokenizer
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.control_ids = self._find_control_ids(tokens)
        """Token id of each control token, by the string it is written as."""
        self._control_pattern = re.compile("|".join(map(re.escape, sorted(self.control_ids, key=len, reverse=True))))
        self._control_id_set = frozenset(self.control_ids.values())
        byte_ids = (self._tokenizer.token_to_id(f"<0x{byte:02X}>") for byte in range(256))
        self.byte_token_ids = frozenset(byte_id for byte_id in byte_ids if byte_id is not None)
        """Ids that stand for one byte of a character without a token of its own."""

    @classmethod
    def from_file(cls, path: Path, tokens: TokenSpec) -> "Tokenizer":
        """Read `tokenizer.json`.

        Raises:
            BundleError: The file cannot be read, is not a tokenizer, or lacks an id that `tokens` names.
        """
        try:
            # By the library itself: reading Gemma's 33 MB here first costs another 160 MB at the peak.
            tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the library raises bare Exception for whatever is wrong
            raise BundleError(f"The bundle's tokenizer {path} cannot be read: {error}.") from error
        return cls(tokenizer, tokens)

    @property
    def control_pattern(self) -> re.Pattern[str]:
        """Match any control token's string, the longest first."""
        return self._control_pattern

    def encode(self, text: str) -> list[int]:
        """Return the ids of a rendered prompt; control strings in it become control tokens; no `<bos>` is added."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def encode_text(self, text: str) -> list[int]:
        """Return ids that spell `text`, none of them a control token.

        A control string is cut after its first character and both sides are encoded on their own, so that neither the
        library's search for added tokens nor a merge can see it whole. Text without one is encoded as by `encode`.

        Raises:
            PromptError: The text cannot be spelled without a control token (a normaliser builds one).
        """
        token_ids: list[int] = []
        start = 0
        while match := self._control_pattern.search(text, start):
            cut = match.start() + 1
            token_ids += self.encode(text[start:cut])
            start = cut
        token_ids += self.encode(text[start:])
        if not self._control_id_set.isdisjoint(token_ids):
            raise PromptError("The text holds a control token of the model that cannot be written as text.")
        return token_ids

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of token ids; special tokens leave nothing, an incomplete character becomes U+FFFD."""
        return str(self._tokenizer.decode(list(token_ids), skip_special_tokens=True))

    def token_text(self, token_id: int) -> str:
        """Return one token as text, a control token as the string it is written as."""
        return str(self._tokenizer.decode([token_id], skip_special_tokens=False))

    def token_bytes(self, vocab_size: int) -> list[bytes]:
        """Return the bytes that each token stands for, by id; nothing for an id without a token.

        Args:
            vocab_size: How many; may be more than the tokenizer has tokens.
        """
        found = []
        for token_id in range(vocab_size):
            string = self._tokenizer.id_to_token(token_id)
            if token_id in self.byte_token_ids and string is not None:
                found.append(bytes([int(string[3:5], 16)]))  # <0xE9>
            else:
                found.append(b"" if string is None else self.token_text(token_id).encode())
        return found

    def _find_control_ids(self, tokens: TokenSpec) -> dict[str, int]:
        added = self._tokenizer.get_added_tokens_decoder()
        named = [tokens.bos_token_id, tokens.pad_token_id, *tokens.eos_token_ids, tokens.boi_token_id]
        named += [tokens.image_token_id, tokens.eoi_token_id]
        named += [tokens.thought_start_token_id, tokens.thought_end_token_id]
        control_ids: dict[str, int] = {}
        for token_id in named:
            if token_id is None:
                continue
            string = self._tokenizer.id_to_token(token_id)
            if string is None:
                raise BundleError(f"The bundle's tokenizer has no token {token_id}, which its description names.")
            control_ids[string] = token_id
        for token_id, token in added.items():
            if token.special or token.content in _TURN_TOKENS or _RESERVED_TOKEN.fullmatch(token.content):
                control_ids[token.content] = token_id
        return control_ids
