"""Whether phones may come in, and what the certificate that they see is for; nothing is made or renewed here."""

from collections.abc import Callable
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from appliance.config import Config
from appliance.errors import DermstationError
from appliance.host.check import Check, ok, problem, warning

NAME: Final = "Phones"
_WORD_BYTES: Final = 12
"""As many as the screen of phones shows in words."""


def check_phones(config: Config, now_at: datetime, released_at: datetime, words: Callable[[bytes], str]) -> Check:
    """Look at the certificate of the clinic's network.

    Args:
        config: The settings.
        now_at: The machine's date.
        released_at: When this version was released.
        words: Writes bytes as words.
    """
    if not config.lan.enabled:
        return ok(NAME, "may not come in: [lan] enabled is false")
    if find_spec("cryptography") is None:
        return warning(NAME, "cannot come in without cryptography", "Install it: pip install 'dermstation[records]'.")
    from appliance.host.certificate_files import CertificateFiles
    from appliance.host.certificates import names_of

    try:
        made = CertificateFiles(Path(config.lan.folder), released_at=released_at).read()
    except DermstationError as error:
        action = "Start the station: it makes what is missing. If it is there, run this as root."
        return warning(NAME, str(error).removesuffix("."), action)
    names, addresses = names_of(made.leaf.certificate)
    found = (
        f"come in on port {config.lan.port}; certificate for {', '.join((*names[:1], *addresses))}, "
        f"valid until {made.ends_at:%Y-%m-%d}; of the authority {words(made.authority.fingerprint[:_WORD_BYTES])}"
    )
    if not made.leaf.certificate.not_valid_before_utc <= now_at < made.ends_at:
        action = "Set the machine's date and confirm it on the screen: the certificate is then renewed by itself."
        return problem(NAME, f"{found}; that is not now", action)
    return ok(NAME, found)
