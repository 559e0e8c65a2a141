"""The box's own secret, which is mixed into PINs and in no backup: read, or made anew where it is gone.

Without it no PIN fits any more, as after a restore onto another box: then each is emptied, and the screens ask for new
ones, beginning with a lead's by the phrase.
"""

import logging
import secrets
import sqlite3
from dataclasses import replace

from appliance.records.door import FileDoor, replace_file
from appliance.records.errors import NotSavedError
from appliance.records.pins import BOX_SECRET_NAME
from appliance.records.sealing import KEY_BYTES
from appliance.records.store import RecordStore
from appliance.records.users import select_users, update_user

logger = logging.getLogger(__name__)


def box_secret(store: RecordStore) -> bytes:
    """Return the 32 bytes; empty where there are none and the disk takes none, then no PIN can be set."""
    path = store.folder / BOX_SECRET_NAME
    found = path.read_bytes() if path.is_file() else b""
    if len(found) == KEY_BYTES:
        return found
    if store.is_read_only:
        return b""
    made = secrets.token_bytes(KEY_BYTES)
    try:
        # The PINs first: cut in between, the next start finds no secret and does both again.
        store.note("pin-reset", None, also=_empty_pins, detail=BOX_SECRET_NAME)
        replace_file(FileDoor(), path, made)
    except (NotSavedError, OSError) as error:
        logger.warning("box secret not written error=%s", error)
        return b""
    logger.warning("box secret made anew: every PIN must be set")
    return made


def _empty_pins(connection: sqlite3.Connection, sequence: int) -> None:
    for user in select_users(connection):
        update_user(connection, replace(user, pin_hash=""), sequence)
