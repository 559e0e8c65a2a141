"""One answer as it grows: which text to show, what was thought, and when it is over.

Pure: tokens go in, text comes out. Thought is set aside for the audit and never part of the text.
"""

from collections.abc import Sequence

from appliance.medgemma.detokenizer import Decodes, Detokenizer
from appliance.medgemma.spec import TokenSpec
from appliance.medgemma.stops import StopStrings


class Answer:
    """The answer so far."""

    def __init__(self, tokenizer: Decodes, tokens: TokenSpec, stop: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._tokens = tokens
        self._stops = StopStrings(stop)
        self._detokenizer = Detokenizer(tokenizer)
        self._is_thinking = False
        self._text: list[str] = []
        self._thought: list[str] = []
        self.token_ids: list[int] = []
        """Everything that was generated, thought and eos included."""
        self.is_finished = False
        """Whether an eos token or a stop string has come."""

    @property
    def text(self) -> str:
        """What was shown so far."""
        return "".join(self._text)

    @property
    def thought(self) -> str:
        """What the model wrote between its thought tokens so far."""
        return "".join(self._thought)

    def push(self, token_id: int) -> str:
        """Add one token and return the text to show for it."""
        self.token_ids.append(token_id)
        if token_id in self._tokens.eos_token_ids:
            self.is_finished = True
            return ""
        if token_id == self._tokens.thought_start_token_id:
            return self._switch(to_thought=True)
        if token_id == self._tokens.thought_end_token_id and self._is_thinking:
            return self._switch(to_thought=False)
        return self._take(self._detokenizer.push(token_id))

    def flush(self) -> str:
        """Return what was held back, as no more tokens come."""
        shown = self._take(self._detokenizer.flush())
        rest = self._stops.flush()
        self._text.append(rest)
        return shown + rest

    def _switch(self, *, to_thought: bool) -> str:
        shown = self._take(self._detokenizer.flush())
        self._detokenizer = Detokenizer(self._tokenizer)
        self._is_thinking = to_thought
        return shown

    def _take(self, text: str) -> str:
        if self._is_thinking:
            self._thought.append(text)
            return ""
        shown = self._stops.push(text)
        self._text.append(shown)
        self.is_finished = self.is_finished or self._stops.is_reached
        return shown
