"""The station's settings: one TOML file, read once at start into frozen values; anything unknown is refused.

Command-line flags override single values through `msgspec.structs.replace`; nothing reads the environment.
"""

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigurationError

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""TCP port; 0 lets the kernel choose."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
LOOPBACK = "127.0.0.1"


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[engine]`: the process that holds the model."""

    bundle: str | None = None
    """Folder of the model bundle; the demonstration bundle when absent."""
    socket: str | None = None
    """Unix socket to listen on; excludes `port`."""
    host: str = LOOPBACK
    port: Port = 8765
    threads: Annotated[int, msgspec.Meta(ge=1, le=256)] | None = None
    """Threads of ONNX Runtime; the cores that this process may use when absent."""
    context_length: Annotated[int, msgspec.Meta(ge=64, le=131_072)] | None = None
    """Tokens of prompt and answer together."""
    provider: Literal["auto", "cpu", "cuda"] = "auto"
    queue_limit: Annotated[int, msgspec.Meta(ge=0, le=64)] = 4
    """Generations that may wait; one more is refused with 429."""
    deadline_s: Seconds = 120.0
    """Longest run of one generation."""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 64 << 20
    """A request with a larger body gets 413."""
    max_images: Annotated[int, msgspec.Meta(ge=1, le=128)] = 16


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[camera]`: where frames come from."""

    kind: Literal["replay"] = "replay"
    folder: str | None = None
    """Pictures of the replay camera; the shipped drawings when absent."""
    frames_per_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    picture_s: Seconds = 6.0
    """How long the replay camera stays on one picture."""


class StationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[station]`: the kiosk and its service."""

    host: str = LOOPBACK
    port: Port = 8080
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)] = "dermstation"
    """Instance name on the LAN; never a clinic's or a patient's name."""
    advertise: bool = True
    """Whether to be found by mDNS; only ever done when listening beyond loopback."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    engine: EngineConfig = EngineConfig()
    station: StationConfig = StationConfig()
    camera: CameraConfig = CameraConfig()


def load_config(path: Path | None) -> Config:
    """Read the settings, or return the defaults when there is no path.

    Raises:
        ConfigurationError: The file is missing or not TOML, or a key is unknown, of the wrong type or out of range;
            the sentence names the key's path.
    """
    if path is None:
        return Config()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Config)
    except OSError as error:
        raise ConfigurationError(f"The settings file {path} cannot be read: {error.strerror}.") from error
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"The settings file {path} is refused: {error}.") from error
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"The settings file {path} is not TOML: {error}.") from error
