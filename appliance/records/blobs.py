"""The photos' files: one sealed file each, named by its id, whole under its name or not there.

It knows no rows: which files belong to a record is said by the caller.
"""

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Final

from appliance.records.door import Door
from appliance.records.errors import TamperedError
from appliance.records.sealing import seal, unseal

BLOBS_NAME: Final = "blobs"
_TEMPORARY: Final = ".new"


class Blobs:
    """A folder of sealed files, through the door."""

    def __init__(self, folder: Path, door: Door) -> None:
        self._folder = folder / BLOBS_NAME
        self._door = door

    def make(self) -> None:
        """Make the folder, durably, if it is not there.

        Raises:
            OSError: It cannot be made.
        """
        if self._door.make_folder(self._folder):
            self._door.sync_folder(self._folder.parent)

    def path(self, capture_id: str) -> Path:
        """Return where a photo lies."""
        return self._folder / capture_id

    def write(self, capture_id: str, content: bytes, data_key: bytes, encounter_id: str) -> None:
        """Seal and write a photo: temporary name, fsync, rename, fsync of the folder; the row comes after.

        Raises:
            OSError: Nothing, or the whole file, is under its name; the caller discards it.
        """
        sealed = seal(data_key, content, _identity(capture_id, encounter_id))
        temporary = self._folder / (capture_id + _TEMPORARY)
        self._door.write_new(temporary, sealed)
        self._door.rename(temporary, self.path(capture_id))
        self._door.sync_folder(self._folder)

    def read(self, capture_id: str, data_key: bytes, encounter_id: str, sha256: str) -> bytes:
        """Read a photo's original bytes.

        Raises:
            TamperedError: The file is missing, changed, or another record's.
            OSError: The disk failed.
        """
        try:
            sealed = self._door.read(self.path(capture_id))
        except FileNotFoundError as error:
            raise TamperedError("A photo's file is missing.") from error
        return open_blob(sealed, capture_id, data_key, encounter_id, sha256)

    def discard(self, capture_id: str) -> None:
        """Remove a photo's file and what may be left of writing it; nothing happens when there is none.

        Raises:
            OSError: It cannot be removed.
        """
        self._door.remove(self._folder / (capture_id + _TEMPORARY))
        self._door.remove(self.path(capture_id))

    def names(self) -> set[str]:
        """List what lies there."""
        return {entry.name for entry in self._folder.iterdir()} if self._folder.is_dir() else set()

    def sweep(self, wanted: Collection[str]) -> int:
        """Remove what no record points to: photos whose row was never committed, or erased; returns how many.

        Raises:
            OSError: One cannot be removed.
        """
        unclaimed = self.names() - set(wanted)
        for name in unclaimed:
            self._door.remove(self._folder / name)
        if unclaimed:
            self._door.sync_folder(self._folder)
        return len(unclaimed)


def open_blob(sealed: bytes, capture_id: str, data_key: bytes, encounter_id: str, sha256: str) -> bytes:
    """Open a photo's sealed bytes.

    Raises:
        TamperedError: They were changed, or are another record's.
    """
    content = unseal(data_key, sealed, _identity(capture_id, encounter_id))
    if hashlib.sha256(content).hexdigest() != sha256:
        raise TamperedError("A photo's bytes are not those that its record describes.")
    return content


def _identity(capture_id: str, encounter_id: str) -> bytes:
    return f"captured_image blob {capture_id} {encounter_id}".encode()
