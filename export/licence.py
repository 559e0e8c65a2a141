"""The licence notice that goes into every bundle: exported weights are derivatives of somebody's work.

It decides nothing about what a licence allows; it carries on what the checkpoint says, and never writes nothing.
Source: Health AI Developer Foundations Terms of Use 3.1; Gemma Terms of Use 3.1; Apache License 2.0, section 4.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from appliance.medgemma.bundle import Licence

NOTICE_FILE: Final = "NOTICE"
HAI_DEF: Final = "Health AI Developer Foundations Terms of Use"
GEMMA: Final = "Gemma Terms of Use"
UNKNOWN: Final = "not stated by the checkpoint"
_NOTICES: Final = {
    HAI_DEF: (
        "HAI-DEF is provided under and subject to the Health AI Developer Foundations Terms of Use found at "
        "https://developers.google.com/health-ai-developer-foundations/terms\n\n"
        "Use is restricted by section 3.2 of those terms and by the prohibited use policy at "
        "https://developers.google.com/health-ai-developer-foundations/prohibited-use-policy, which bind whoever "
        "receives this bundle. Clinical use needs the authorisation of the health regulatory authority."
    ),
    GEMMA: (
        "Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms\n\n"
        "Use is restricted by section 3.2 of those terms and by the policy at "
        "ai.google.dev/gemma/prohibited_use_policy, which bind whoever receives this bundle."
    ),
    "Apache-2.0": "Licensed under the Apache License, Version 2.0: https://www.apache.org/licenses/LICENSE-2.0",
    UNKNOWN: (
        "The checkpoint came without a licence. Its own terms apply to this bundle all the same; find them before "
        "passing it on."
    ),
}
_ALIASES: Final = {
    "health-ai-developer-foundations": HAI_DEF,
    "hai-def": HAI_DEF,
    "gemma": GEMMA,
    "apache-2.0": "Apache-2.0",
}
_OWN_FILES: Final = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE", "NOTICE", "NOTICE.txt", "Notice.txt")
_FRONT_MATTER: Final = re.compile(r"\A---\n(.*?)\n---", re.DOTALL)
_README_MAX_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """What a bundle says about its licence."""

    licence: Licence
    text: str
    """Content of the notice file; never empty."""


def find_notice(folder: Path, checkpoint: str, statement: str, given: str | None = None) -> Notice:
    """Decide what the bundle says about its licence.

    Args:
        folder: The checkpoint's files.
        checkpoint: Its hub id or folder name; one with `medgemma` in it is under the HAI-DEF terms.
        statement: What was changed, and from what.
        given: Name of the licence, if the caller states it: an SPDX id or free text.
    """
    name = _canonical(given or _from_front_matter(folder) or _from_name(checkpoint) or "")
    own = [(file, (folder / file).read_text(encoding="utf-8", errors="replace")) for file in _present(folder)]
    if not name:
        name = f"see {own[0][0]} below" if own else UNKNOWN
    notice = _NOTICES.get(name, f"The weights are under this licence: {name}.")
    parts = [notice, statement, *(f"--- {file} of the checkpoint ---\n\n{text.strip()}" for file, text in own)]
    licence = Licence(name=name, notice_file=NOTICE_FILE, modification_statement=statement)
    return Notice(licence=licence, text="\n\n".join(parts) + "\n")


def _present(folder: Path) -> list[str]:
    return [file for file in _OWN_FILES if (folder / file).is_file() and (folder / file).read_bytes().strip()]


def _canonical(name: str) -> str:
    return _ALIASES.get(name.strip().lower(), name.strip())


def _from_name(checkpoint: str) -> str | None:
    return HAI_DEF if "medgemma" in checkpoint.lower() else None


def _from_front_matter(folder: Path) -> str | None:
    """Read `license_name` or `license` from the model card's front matter."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    with path.open("rb") as file:
        card = file.read(_README_MAX_BYTES).decode("utf-8", errors="replace").replace("\r\n", "\n")
    match = _FRONT_MATTER.match(card)
    if match is None:
        return None
    found = dict(re.findall(r"^(license(?:_name)?):[ \t]*[\"']?([^\"'\n]+?)[\"']?[ \t]*$", match[1], re.MULTILINE))
    return found.get("license_name") or found.get("license")
