"""Why the station refuses: each sentence stands on the nurse's screen as it is."""

from appliance.errors import DermstationError


class EncounterClosedError(DermstationError):
    """The visit is not the one on the screen any more; nothing was kept."""

    message_key = "error.encounter_closed"


class StaleFrameError(DermstationError):
    """The camera's newest frame is too old, or a repeat; nothing was kept."""

    message_key = "error.stale_frame"


class NotShownError(DermstationError):
    """The picture of the camera whose button was pressed was not on the screen; nothing was kept."""

    message_key = "error.not_shown"


class PoorQualityError(DermstationError):
    """The photo shows too little; it is held until the nurse says why to keep it, or takes another."""

    message_key = "error.poor_quality"


class NotFoundError(DermstationError):
    """There is no such photo or job, any more."""

    message_key = "error.not_found"


class LimitError(DermstationError):
    """More photos or questions than fit."""

    message_key = "error.limit"


class SignedOutError(DermstationError):
    """Nobody is signed in, or the screen is locked."""

    message_key = "error.signed_out"


class UnreadablePhotoError(DermstationError):
    """The frame is whole and no decoder reads it; nothing was kept."""

    message_key = "error.unreadable_photo"


class LampError(DermstationError):
    """The dermatoscope's light is not what was asked for."""

    message_key = "error.lamp"


class FreshPinError(DermstationError):
    """What is asked for needs the PIN once more, typed just now."""

    message_key = "error.fresh_pin"
