"""Finds the checkpoint: a folder on this machine, or an id on the Hugging Face hub, fetched if need be.

Source: huggingface_hub `snapshot_download` and its errors.
"""

import os
import re
from pathlib import Path
from typing import Final

from export.checkpoint import CheckpointFolder
from export.errors import CheckpointError, DownloadError

_HUB_ID: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_CACHED: Final = re.compile(r"models--(.+?)--(.+)/snapshots/([0-9a-f]{40})")
_PATTERNS: Final = (
    "*.safetensors",
    "*.safetensors.index.json",
    "config.json",
    "generation_config.json",
    "preprocessor_config.json",
    "processor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.*",
    "README.md",
    "LICENSE*",
    "NOTICE*",
)


def locate_checkpoint(checkpoint: str, revision: str | None = None) -> CheckpointFolder:
    """Return the folder of a checkpoint, downloading it if it is a hub id.

    Args:
        checkpoint: Path of a folder, or `owner/name`.
        revision: Branch, tag or commit on the hub.

    Raises:
        CheckpointError: It is neither a folder nor a hub id.
        DownloadError: The hub does not answer, does not know it, or wants a licence accepted and a token.
    """
    folder = Path(checkpoint)
    if folder.is_dir():
        return _local(folder)
    if not _HUB_ID.fullmatch(checkpoint):
        raise CheckpointError(
            f"There is no checkpoint folder {checkpoint}, and it is not a hub id (owner/name) either."
        )
    path = _download(checkpoint, revision)
    return CheckpointFolder(path=path, name=checkpoint, revision=path.name)


def _local(folder: Path) -> CheckpointFolder:
    """Name a folder; one in the hub's cache says where it came from."""
    resolved = folder.resolve()
    cached = _CACHED.fullmatch("/".join(resolved.parts[-3:]))
    if cached:
        return CheckpointFolder(path=folder, name=f"{cached[1]}/{cached[2]}", revision=cached[3])
    return CheckpointFolder(path=folder, name=resolved.name)


def _download(checkpoint: str, revision: str | None) -> Path:
    # Imported here: a local export needs no hub client.
    from huggingface_hub import errors as hub
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(checkpoint, revision=revision, allow_patterns=list(_PATTERNS)))
    except hub.GatedRepoError as error:
        raise DownloadError(
            f"{checkpoint} is gated: accept its licence at https://huggingface.co/{checkpoint} and set a token with "
            "`hf auth login` or HF_TOKEN."
        ) from error
    except hub.RevisionNotFoundError as error:
        raise DownloadError(f"{checkpoint} has no revision {revision} on the hub.") from error
    except hub.RepositoryNotFoundError as error:
        raise DownloadError(
            f"The hub does not know {checkpoint}, or hides it: check the id, and set a token with `hf auth login` or "
            "HF_TOKEN if it is private."
        ) from error
    except (hub.LocalEntryNotFoundError, hub.OfflineModeIsEnabled, OSError) as error:
        raise DownloadError(_offline(checkpoint)) from error
    except hub.HfHubHTTPError as error:
        raise DownloadError(f"The hub refused {checkpoint}: {str(error).splitlines()[0]}") from error


def _offline(checkpoint: str) -> str:
    forbidden = os.environ.get("HF_HUB_OFFLINE", "0").upper() in {"1", "ON", "YES", "TRUE"}
    why = "HF_HUB_OFFLINE is set" if forbidden else "the hub cannot be reached"
    return (
        f"{checkpoint} is not on this machine and {why}; give a checkpoint folder, or fetch it where there is a "
        f"network (it may be gated: accept the licence at https://huggingface.co/{checkpoint} and set HF_TOKEN)."
    )
