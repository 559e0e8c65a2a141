"""The station's screen follows the session: locked when nobody is there, and emptied for somebody else."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Screen(Protocol):
    """What of the station must know that the screen was locked; `Station` is one."""

    def lock_screen(self) -> None:
        """Hide the visit; no shutter fires, and a photo on its way is discarded."""

    def unlock_screen(self) -> None:
        """Show the visit again."""

    def leave_screen(self) -> None:
        """Take the visit off the screen: somebody else is there now."""


class ScreenLock:
    """Tells one screen about each change, in order; any thread may call.

    Its lock is never taken by who holds the station's: a photo that is being kept asks who is there, and must not wait
    for a lock that waits for that photo.
    """

    def __init__(self, is_open: Callable[[], bool]) -> None:
        """Take what tells whether somebody is at the screen now."""
        self._is_open = is_open
        self._screen: Screen | None = None
        self._was_open = False
        self._telling = threading.RLock()

    def attach(self, screen: Screen) -> None:
        """Name the screen; it is locked until somebody is there."""
        with self._telling:
            self._screen = screen
            self._was_open = False
            screen.lock_screen()
        self.tick()

    @contextmanager
    def changing(self, *, is_another: bool) -> Iterator[None]:
        """Hold the screen locked and empty while another person takes over; tell it at the end who is there."""
        with self._telling:
            if is_another and self._screen is not None:
                self._screen.lock_screen()
                self._was_open = False
                self._screen.leave_screen()
            yield
            self.tick()

    def tick(self) -> None:
        """Have the screen follow, if anything changed."""
        with self._telling:
            is_open = self._is_open()
            if self._screen is None or is_open == self._was_open:
                return
            self._was_open = is_open
            if is_open:
                self._screen.unlock_screen()
            else:
                self._screen.lock_screen()
