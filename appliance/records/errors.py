"""Why the records refuse: each sentence stands on a screen as it is and says what to do."""

from appliance.errors import DermstationError


class RecordsError(DermstationError):
    """Something about the records went wrong."""

    message_key = "error.records"


class NotSavedError(RecordsError):
    """Nothing of what was asked was kept; the store goes on."""

    message_key = "error.not_saved"
    exit_code = 74  # EX_IOERR


class StorageFailedError(NotSavedError):
    """The disk failed in the middle: the store is closed for good, and only a new start may look at it again.

    After a failed fsync the kernel may have dropped the data and reports success the next time, so nothing is tried
    again. Source: Rebello et al., "Can Applications Recover from fsync Failures?", USENIX ATC 2020.
    """

    message_key = "error.storage_failed"


class DiskFullError(NotSavedError):
    """There is too little room; what is stored stays readable."""

    message_key = "error.disk_full"


class ReadOnlyError(NotSavedError):
    """The disk takes no writes; what is stored stays readable."""

    message_key = "error.read_only"


class LockedError(RecordsError):
    """Reading needs the clinic's phrase first; new records can still be made."""

    message_key = "error.records_locked"
    exit_code = 77  # EX_NOPERM


class WrongSecretError(RecordsError):
    """The phrase, the recovery words or the PIN is not the right one."""

    message_key = "error.wrong_secret"
    exit_code = 77  # EX_NOPERM


class ThrottledError(RecordsError):
    """Too many wrong PINs: wait, or ask the lead."""

    message_key = "error.throttled"

    def __init__(self, message: str, wait_s: float | None) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        """Seconds to wait; None when only the lead can help."""


class ForbiddenError(RecordsError):
    """The operator's role does not allow this."""

    message_key = "error.forbidden"
    exit_code = 77  # EX_NOPERM


class MissingError(RecordsError):
    """There is no such record."""

    message_key = "error.no_record"


class ErasedError(MissingError):
    """The record was erased; only its trace in the audit is left."""

    message_key = "error.erased"


class TamperedError(RecordsError):
    """What lies on the disk is not what was saved: changed, moved or swapped."""

    message_key = "error.tampered"
    exit_code = 65  # EX_DATAERR


class DamagedError(RecordsError):
    """The disk or the database does not give back what it holds."""

    message_key = "error.damaged"
    exit_code = 74  # EX_IOERR


class OrderError(RecordsError):
    """A record may not be made now: the nurse's impression comes before the model's assessment."""

    message_key = "error.order"


class CannotOpenError(RecordsError):
    """The records cannot be opened; `state` names the case and `action` what to do."""

    message_key = "error.cannot_open"
    exit_code = 74  # EX_IOERR

    def __init__(self, message: str, *, state: str, action: str) -> None:
        super().__init__(message)
        self.state = state
        self.action = action


class ArchiveError(RecordsError):
    """A backup is damaged, foreign, or holds what a backup may not hold; nothing was restored."""

    message_key = "error.archive"
    exit_code = 65  # EX_DATAERR
