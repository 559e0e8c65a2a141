"""Key fobs: made on a stick, read from it, taken off the list.

The key goes onto the stick first and is read back; only then does the box believe in it. A stick that is pulled out in
between holds a key that opens nothing. What else is on the stick is not touched.
"""

import contextlib
import errno
import secrets
from pathlib import Path
from typing import Final

from appliance.records.clinic_key import HELD_KEY_BYTES, HeldKey, WrappingKey
from appliance.records.door import Door, FileDoor, replace_file
from appliance.records.errors import MissingError, NotSavedError, WrongSecretError
from appliance.records.fob_file import FOB_NAME, FobFile, fob_from_bytes, read_fob
from appliance.records.held_slots import HeldSlot
from appliance.records.slots import add_held_slot, check_held_name
from appliance.records.store import RecordStore, new_id

_NO_ROOM: Final = "The stick has no room for the key; no fob was made. Use another one."
_NO_WRITES: Final = "The stick takes no writes; no fob was made. Use another one."
_NOT_WRITTEN: Final = "The stick cannot be written or was pulled out; no fob was made. Try it again."
UNREADABLE: Final = "The stick cannot be read; put it in again."
FOREIGN: Final = "This key fob belongs to another clinic; it opens nothing here."
REVOKED: Final = "This key fob is not on this box's list; it opens nothing."


def make_fob(
    store: RecordStore,
    known: WrappingKey,
    folder: Path,
    name: str,
    operator_id: str | None,
    *,
    door: Door | None = None,
) -> str:
    """Make a key fob of a stick; returns the id of its slot.

    Args:
        store: The records, locked or not.
        known: The phrase, or a recovery sheet.
        folder: Where the stick is mounted.
        name: How the fob is called in the list.
        operator_id: Who makes it.
        door: The stick's file system; a test's own.

    Raises:
        WrongSecretError: The known secret, the name or the stick is refused; nothing was changed.
        NotSavedError: The stick or the box did not take it; no fob was made.
    """
    used_door = door or FileDoor()
    store.open_slot(known)
    kept_name = check_held_name(store, name)
    _check_stick(store, folder)
    fob = FobFile(clinic_id=store.meta("clinic_id").decode(), fob_id=new_id(), key=secrets.token_bytes(HELD_KEY_BYTES))
    try:
        _write(used_door, folder, fob)
        return add_held_slot(store, known, fob.wrapping_key(), kept_name, operator_id, slot_id=fob.fob_id)
    except BaseException:
        # It opens nothing, but a file that looks like a key is not left lying about.
        for path in (folder / FOB_NAME, folder / f"{FOB_NAME}.new"):
            with contextlib.suppress(OSError):
                used_door.remove(path)
        raise


def fob_on(store: RecordStore, folder: Path) -> HeldSlot | None:
    """Tell which of this box's fobs a stick is, without its key; None when it is no fob at all.

    Raises:
        WrongSecretError: It is damaged, of another clinic, or not on the list.
        MissingError: The stick cannot be read.
    """
    fob = _read(folder)
    return None if fob is None else _listed(store, fob)


def fob_key(store: RecordStore, folder: Path) -> HeldKey:
    """Read the key of a fob, to unlock the records with it.

    Raises:
        WrongSecretError: As `fob_on`.
        MissingError: The stick cannot be read, or is no fob any more.
    """
    fob = _read(folder)
    if fob is None:
        raise MissingError("There is no key on this stick. Put the key fob in again.")
    _listed(store, fob)
    return fob.wrapping_key()


def _read(folder: Path) -> FobFile | None:
    try:
        return read_fob(folder)
    except OSError as error:
        raise MissingError(UNREADABLE) from error


def _listed(store: RecordStore, fob: FobFile) -> HeldSlot:
    if fob.clinic_id != store.meta("clinic_id").decode():
        raise WrongSecretError(FOREIGN)
    held = next((one for one in store.held_slots("fob") if one.slot.slot_id == fob.fob_id), None)
    if held is None:
        raise WrongSecretError(REVOKED)
    return held


def _check_stick(store: RecordStore, folder: Path) -> None:
    """Refuse a stick that is a fob already, and a folder of the box's own disk.

    Raises:
        WrongSecretError: It is one.
        NotSavedError: It cannot be used.
    """
    try:
        if folder.stat().st_dev == store.folder.stat().st_dev:
            raise NotSavedError("This is the box's own disk: a key beside the records protects nothing. Use a stick.")
        found = read_fob(folder)
    except WrongSecretError:
        return  # a damaged key, of whichever clinic, opens nothing and may be replaced
    except OSError as error:
        raise NotSavedError(_NOT_WRITTEN) from error
    if found is None:
        return
    if found.clinic_id != store.meta("clinic_id").decode():
        raise WrongSecretError("This stick is the key fob of another clinic; it was left as it is. Use another one.")
    held = next((one for one in store.held_slots("fob") if one.slot.slot_id == found.fob_id), None)
    if held is not None:
        raise WrongSecretError(f"This stick is the key fob {held.name} already.")


def _write(door: Door, folder: Path, fob: FobFile) -> None:
    """Write the key and read it back from the stick.

    Raises:
        NotSavedError: The stick does not take it, or gives back something else.
    """
    content, path = fob.to_bytes(), folder / FOB_NAME
    try:
        replace_file(door, path, content)
        if fob_from_bytes(door.read(path)) != fob:
            raise NotSavedError(_NOT_WRITTEN)
    except OSError as error:
        raise NotSavedError(_sentence(error)) from error
    except WrongSecretError as error:
        raise NotSavedError("The stick does not give back what was written on it; use another one.") from error


def _sentence(error: OSError) -> str:
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return _NO_ROOM
        case errno.EROFS | errno.EACCES | errno.EPERM:
            return _NO_WRITES
        case _:
            return _NOT_WRITTEN
