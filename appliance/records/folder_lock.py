"""One process at a time has the records open; the kernel lets go of the lock when that process dies.

The lock is on the folder itself, so that a disk that takes no writes can be locked too.
Source: flock(2).
"""

import fcntl
import os
from pathlib import Path
from typing import Self

from appliance.records.errors import CannotOpenError


class FolderLock:
    """Holds a folder for this process."""

    def __init__(self, folder: Path) -> None:
        """Take the lock.

        Raises:
            CannotOpenError: Another process has it.
            OSError: The folder cannot be opened.
        """
        self._descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._descriptor)
            raise CannotOpenError(
                f"The records in {folder} are open in another program.",
                state="in-use",
                action="Use the station's own screens, or stop the station first.",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
