"""The names the station goes by on a LAN: its DNS-SD instance name and its host name, and what to try when taken.

Source: RFC 6763, section 4.1.1 (an instance name is one label of up to 63 bytes of UTF-8, without control
characters); RFC 1035, section 2.3.1 (letters, digits and hyphens of a host name).
"""

import itertools
import re
import unicodedata
from collections.abc import Iterator

from appliance.errors import ConfigurationError

LABEL_MAX_BYTES = 63
"""Bytes of one DNS label (RFC 1035, section 2.3.4)."""
NAMES_TRIED = 9
"""How many names a box tries on a network; its certificate is for all of them."""
_FALLBACK_HOST = "dermstation"


def instance_names(name: str) -> Iterator[str]:
    """Yield the instance names to try in turn: `name`, `name-2`, `name-3` ...; each fits one DNS label.

    A dot becomes a hyphen: zeroconf would read it as the end of the label.

    Raises:
        ConfigurationError: The name is empty or holds a control character.
    """
    if any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp", "Cs"} for char in name):
        raise ConfigurationError(f"The station's name {name!r} holds a control character: use printable text only.")
    label = " ".join(name.replace(".", "-").split())
    if not label:
        raise ConfigurationError("The station's name is empty: give it at least one visible character.")
    suffixes = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    return (_cut(label, LABEL_MAX_BYTES - len(suffix)) + suffix for suffix in suffixes)


def host_name(instance_name: str) -> str:
    """Derive the host name, such as `dermstation-2.local.`: accents go, what is left of other scripts is a hyphen."""
    ascii_text = unicodedata.normalize("NFKD", instance_name).encode("ascii", "ignore").decode().lower()
    label = re.sub(r"[^a-z0-9]+", "-", ascii_text).strip("-")
    if not label or not label[0].isalpha():
        # RFC 1035 asks for a letter first, and a name in another script leaves nothing but its number.
        label = f"{_FALLBACK_HOST}-{label}".strip("-")
    return label[:LABEL_MAX_BYTES].rstrip("-") + ".local."


def _cut(text: str, max_bytes: int) -> str:
    """Cut at a character: half a character is no UTF-8."""
    return text.encode()[:max_bytes].decode(errors="ignore").rstrip()
