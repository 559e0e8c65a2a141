"""The station's settings: one TOML file, read once at start into frozen values; anything unknown is refused.

Command-line flags override single values through `msgspec.structs.replace`; nothing reads the environment.
"""

import re
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import ConfigurationError
from appliance.types import ShotKind

Port = Annotated[int, msgspec.Meta(ge=0, le=65535)]
"""TCP port; 0 lets the kernel choose."""
Seconds = Annotated[float, msgspec.Meta(gt=0, le=86_400)]
Provider = Literal["auto", "cpu", "cuda", "tensorrt", "openvino"]
"""Where the model computes. `auto` takes CUDA where the installed wheel has it and it takes nodes, else the CPU; there
OpenVINO looks at photos, if it is installed and the processor multiplies bfloat16. `openvino` insists on that, `cpu` is
ONNX Runtime alone. TensorRT compiles for minutes at the first start, so it is only taken when it is asked for."""
LOOPBACK = "127.0.0.1"
_BY_NUMBER = re.compile(r"/dev/video\d+$")


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
    provider: Provider = "auto"
    queue_limit: Annotated[int, msgspec.Meta(ge=0, le=64)] = 4
    """Generations that may wait; one more is refused with 429."""
    deadline_s: Seconds = 120.0
    """Longest run of one generation."""
    max_body_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 30)] = 64 << 20
    """A request with a larger body gets 413."""
    max_images: Annotated[int, msgspec.Meta(ge=1, le=128)] = 16


class VideoDeviceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[camera.overview]` and `[camera.dermatoscope]`: one camera that is plugged in."""

    device: str | None = None
    """Its lasting name, /dev/v4l/by-id/...; when absent what our udev rule calls so, else the only camera there is."""
    width_px: Annotated[int, msgspec.Meta(ge=16, le=8192)] = 1920
    height_px: Annotated[int, msgspec.Meta(ge=16, le=8192)] = 1080
    """The largest picture size of the camera that fits into this is used."""
    frames_per_s: Annotated[float, msgspec.Meta(gt=0, le=240)] = 30.0
    hold_series: bool = False
    """Hold exposure, focus and white balance from a visit's first photo to its last."""

    def __post_init__(self) -> None:
        if self.device is not None and (not self.device.startswith("/dev/") or _BY_NUMBER.match(self.device)):
            raise ValueError(
                f"{self.device} is no lasting name: 'dermstation camera list' shows those below /dev/v4l/by-id"
            )


class CameraConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[camera]`: where frames come from."""

    kind: Literal["replay", "v4l2"] = "replay"
    """`replay` shows a folder's pictures; `v4l2` uses the cameras that are plugged in."""
    folder: str | None = None
    """Pictures of the replay camera; the shipped drawings when absent."""
    frames_per_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 10.0
    picture_s: Seconds = 6.0
    """How long the replay camera stays on one picture."""
    overview: VideoDeviceConfig = VideoDeviceConfig()
    """`[camera.overview]`: the camera for overviews and close-ups."""
    dermatoscope: VideoDeviceConfig | None = None
    """`[camera.dermatoscope]`: absent when the clinic has none."""
    clip_on_lens: bool = False
    """Whether a dermatoscope's lens can be clipped onto the overview camera: then the list asks for it."""


class MicrocontrollerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[microcontroller]`: the dermatoscope's light ring and buttons."""

    enabled: bool = False
    """Whether to look for one; a box without one works all the same."""
    port: str | None = None
    """Its serial port by a lasting name; what our udev rule or its adapter is called when absent."""
    settle_s: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.3
    """From a change of the light to the first frame that counts: its exposure, the camera's buffers and automatics."""


class StationConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[station]`: the kiosk and its service."""

    host: str = LOOPBACK
    port: Port = 8080
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=63)] = "dermstation"
    """Instance name on the LAN; never a clinic's or a patient's name."""
    advertise: bool = True
    """Whether to be found by mDNS; only ever done when phones may come in, `[lan]`."""


class LanConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[lan]`: phones and tablets of the clinic's network; the kiosk's screens are never there."""

    enabled: bool = False
    host: str = "0.0.0.0"  # noqa: S104 - it says for whom it is
    """Address to listen on; every IPv4 address of the box by default."""
    port: Port = 8443
    folder: str = "/var/lib/dermstation/lan"
    """Where the box keeps its certificate: beside the records, never in their backups."""
    front: str | None = None
    """Where the station meets the service that faces the network; without it, the station starts a child."""


Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
LogRatio = Annotated[float, msgspec.Meta(ge=-5, le=5)]
Millimetres = Annotated[float, msgspec.Meta(gt=0, le=2_000)]


class QualityConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[quality]`: from where on the screen says what to do; chosen in `appliance/imaging/DESIGN.md`, Quality."""

    focus_min: Share = 0.25
    brightness_min: Annotated[float, msgspec.Meta(ge=0, le=255)] = 34.0
    """Of the 90th percentile; low, so that dark skin is not called dark."""
    clipped_max: Share = 0.03
    glare_max: Share = 0.006
    shift_max: Share = 0.012
    """Displacement between two frames as a share of the short side."""
    green_cast_max: LogRatio = 0.15
    blue_cast_max: LogRatio = 0.05
    yellow_cast_max: LogRatio = 1.5
    """How far the light may move skin off the line on which skin colours lie; natural logarithms in linear light."""
    frame_height_min_mm: Millimetres = 25.0
    frame_height_max_mm: Millimetres = 130.0
    """What the frame's short side covers, known only with the card in view."""
    off_centre_max: Share = 0.25


class RecordsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[records]`: what is stored."""

    folder: str | None = "/var/lib/dermstation/records"
    """Below a folder that is the station's own: a restore needs room beside it. None, as by `--no-records`: photos
    stay in memory until their visit is closed."""
    idle_lock_s: Annotated[float, msgspec.Meta(ge=60, le=600)] = 180.0
    """How long nobody may touch the screen before it asks for the PIN again."""
    keep_years: Annotated[int, msgspec.Meta(ge=1, le=100)] = 10
    """After the last visit; then the subject is listed for erasing. Your law says how long."""
    stick_folders: tuple[str, ...] = ("/media", "/run/media", "/mnt")
    """Below which USB sticks are mounted: backups and key fobs are there."""
    chip: Annotated[str, msgspec.Meta(min_length=1)] = "device:/dev/tpmrm0"
    """The security chip (TPM 2.0) behind the box PIN, by the name of its TCTI; a box need not have one."""


Shots = Annotated[tuple[ShotKind, ...], msgspec.Meta(max_length=10)]


# A dermatoscope with gel does not go on these.
_SITES: dict[str, Shots] = {"mouth": ("overview", "close_up"), "eyelid": ("overview", "close_up", "lateral")}


class ShotsConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`[shots]`: which photos of a lesion are wanted, in which order."""

    usual: Shots = ("overview", "close_up", "dermoscopic_polarized", "dermoscopic_non_polarized", "lateral")
    """Empty: no list at all, and each photo leads to its assessment."""
    sites: dict[str, Shots] = msgspec.field(default_factory=lambda: dict(_SITES))
    """By body site, instead of the usual ones."""


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file; every table may be left out."""

    engine: EngineConfig = EngineConfig()
    station: StationConfig = StationConfig()
    lan: LanConfig = LanConfig()
    camera: CameraConfig = CameraConfig()
    quality: QualityConfig = QualityConfig()
    shots: ShotsConfig = ShotsConfig()
    microcontroller: MicrocontrollerConfig = MicrocontrollerConfig()
    records: RecordsConfig = RecordsConfig()


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
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The settings file {path} is not TOML: {error}.") from error
