"""The demonstration bundle and its pictures, and where they lie: drawings, not patients."""

from importlib.resources import files
from pathlib import Path


def bundle_path() -> Path:
    """Return the folder of the demonstration bundle."""
    return _folder("bundle")


def pictures_path() -> Path:
    """Return the folder of the drawn pictures that the replay camera shows."""
    return _folder("pictures")


def _folder(name: str) -> Path:
    # The package is installed as files, never zipped: ONNX Runtime maps the weights.
    return Path(str(files(__name__))) / name
