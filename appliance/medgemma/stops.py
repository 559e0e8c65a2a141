"""Stop strings in streamed text: what may be the beginning of one is held back until it is decided."""

from collections.abc import Sequence


class StopStrings:
    """Watches text for any of some strings; the text before the earliest of them passes, nothing after it."""

    def __init__(self, strings: Sequence[str]) -> None:
        self._strings = tuple(string for string in strings if string)
        self._held = ""
        self.is_reached = False
        """Whether a stop string has come; then nothing passes any more."""

    def push(self, text: str) -> str:
        """Add text and return what can be shown of it."""
        if self.is_reached:
            return ""
        self._held += text
        found = [index for string in self._strings if (index := self._held.find(string)) >= 0]
        if found:
            self.is_reached = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        keep = max((_overlap(self._held, string) for string in self._strings), default=0)
        cut = len(self._held) - keep
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """Return what is held back: no more text comes that could complete a stop string."""
        shown, self._held = self._held, ""
        return shown


def _overlap(text: str, string: str) -> int:
    """Return the length of the longest end of `text` that begins `string`."""
    longest = min(len(text), len(string) - 1)
    return next((length for length in range(longest, 0, -1) if string.startswith(text[-length:])), 0)
