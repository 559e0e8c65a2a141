"""What the station asks of any camera."""

from typing import Protocol

from appliance.types import Frame


class Camera(Protocol):
    """A source of frames; its methods may be called from several threads."""

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        """Wait for a frame whose sequence is greater than `after`.

        Args:
            after: Sequence of the frame seen last; -1 for any frame.
            timeout_s: Longest wait in seconds.

        Returns:
            The newest frame, or None when there is none in time.

        Raises:
            CameraError: The camera is gone.
        """

    def close(self) -> None:
        """Let go of the device; waiting calls return."""
