"""What stands on the nurse's desk, in software: an overview camera, a dermatoscope lit by the firmware, and buttons.

The cameras run by themselves and show a real photo of skin, with the printed card or without; the dermatoscope's
picture is lit by what the simulated firmware on its pty really does, so that a photo tells in which light it was taken.
"""

import itertools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Self

import numpy as np
from card_scenes import Scene, rendered
from degraded_photos import jpeg, photo
from kiosk_station import until
from PIL import Image

from appliance.camera.selection import CameraSet
from appliance.clock import SystemClock
from appliance.config import QualityConfig, ShotsConfig
from appliance.engine_client import EngineClient
from appliance.errors import CameraError
from appliance.service.earlier import EarlierPhotos
from appliance.service.live_quality import LiveQuality
from appliance.service.station import Station
from appliance.service.visits import Visits
from appliance.types import Frame, Modality
from firmware_bridge.client import Dermatoscope
from firmware_bridge.codes import IlluminationMode, Inputs
from firmware_bridge.faults import FaultRates, FaultyLine
from firmware_bridge.port import opener
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import PtyServer

FRAMES_PER_S = 10
SIZE = (960, 540)
_COMMENT = b"\xff\xfe"


class ShowCamera:
    """A camera that shows the picture of the moment; a number in a JPEG comment stands for a sensor's noise."""

    def __init__(self, show: Callable[[], bytes], modality: Modality, numbers: Iterator[int]) -> None:
        self._show = show
        self._modality = modality
        self._numbers = numbers
        self._newest: Frame | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.on_press: Callable[[float], None] = lambda _: None
        self.is_plugged = True

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join(5)

    def frame(self, after: int, timeout_s: float) -> Frame | None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest is not None and self._newest.sequence > after, timeout_s)
            if not self.is_plugged:
                raise CameraError("The camera is not connected. Plug it in.")
            return self._newest if self._newest is not None and self._newest.sequence > after else None

    def close(self) -> None:
        self._stop.set()

    def hold_series(self, *, is_held: bool) -> None:
        del is_held

    def _run(self) -> None:
        while not self._stop.wait(1 / FRAMES_PER_S):
            taken_s, picture = SystemClock().monotonic_s(), self._show()
            with self._changed:
                number = next(self._numbers)
                comment = f"frame {number}".encode()
                content = picture[:2] + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + picture[2:]
                self._newest = Frame(
                    content=content,
                    media_type="image/jpeg",
                    sequence=number,
                    captured_s=taken_s,
                    modality=self._modality,
                )
                self._changed.notify_all()


@cache
def overview_picture() -> bytes:
    return jpeg(photo().crop((300, 300, 1260, 840)))


@cache
def card_picture(lesion_mm: float = 7.0, tilt_deg: float = 8.0) -> bytes:
    """A close-up with the card, and a lesion of known size."""
    return jpeg(Image.fromarray(rendered(Scene(lesion_mm=lesion_mm, tilt_deg=tilt_deg, light=(1.0, 0.93, 0.8)), SIZE)))


@cache
def dermoscopic_picture(light: IlluminationMode) -> bytes:
    """The dermatoscope's view: polarised warmer and deeper, white paler, nearly nothing without light."""
    pixels = np.asarray(photo().crop((500, 400, 980, 670)).resize(SIZE, Image.Resampling.LANCZOS), np.float32)
    shine = {IlluminationMode.OFF: (0.05, 0.05, 0.05), IlluminationMode.WHITE: (0.9, 0.98, 1.02)}
    grain = np.random.default_rng(1).normal(0, 3, pixels.shape)
    lit = pixels * np.array(shine.get(light, (1.0, 0.9, 0.82))) + grain
    return jpeg(Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8)), 92)


class NurseRig:
    """The station of a nurse with everything on; `station` is started."""

    def __init__(
        self,
        engine: EngineClient,
        stack: ExitStack,
        *,
        shots: ShotsConfig,
        earlier: EarlierPhotos | None = None,
        visits: Visits | None = None,
        has_lamp: bool = True,
        has_quality: bool = True,
    ) -> None:
        numbers = itertools.count()
        self.device = SimulatedDevice()
        self.close_up = card_picture()
        self.overview = ShowCamera(self._overview_picture, "XC", numbers)
        self.dermatoscope = ShowCamera(lambda: dermoscopic_picture(self.device.state.light.mode), "DMS", numbers)
        cameras = CameraSet({"overview": self._maker(self.overview), "dermatoscope": self._maker(self.dermatoscope)})
        microcontroller = None
        if has_lamp:
            lines = FaultyLine(FaultRates(), random.Random(0)), FaultyLine(FaultRates(), random.Random(1))
            self.to_device, self.to_host = lines
            line = stack.enter_context(PtyServer(self.device, lines=lines))
            microcontroller = Dermatoscope(opener(line.path))
        quality = LiveQuality(QualityConfig()) if has_quality else None
        self.station = stack.enter_context(
            Station(
                cameras,
                engine,
                microcontroller=microcontroller,
                quality=quality,
                shots=shots,
                earlier=earlier,
                visits=visits,
                light_settle_s=0.15,
            )
        )
        if microcontroller is not None:
            until(lambda: microcontroller.snapshot.status is not None)

    def press_grip(self) -> None:
        """Press and let go of the button on the dermatoscope's grip."""
        self.device.inputs.buttons |= Inputs.SHUTTER
        threading.Timer(0.15, self._let_go).start()

    def touch_skin(self, *, is_touching: bool = True) -> None:
        """Put the lens on the skin, or lift it."""
        contact = Inputs.LENS_CONTACT if is_touching else Inputs(0)
        self.device.inputs.buttons = (self.device.inputs.buttons & ~Inputs.LENS_CONTACT) | contact

    def press_body(self, camera: ShowCamera) -> None:
        """Press the button on a camera's body."""
        camera.on_press(SystemClock().monotonic_s())

    def kept(self) -> list[tuple[str | None, str, str | None]]:
        """Return shot, modality and light of the visit's photos."""
        current = self.station.captures.current
        assert current is not None
        images = self.station.captures.images(current.encounter_id)
        return [(image.shot, image.modality, image.light) for image in images]

    def _let_go(self) -> None:
        self.device.inputs.buttons &= ~Inputs.SHUTTER

    def _overview_picture(self) -> bytes:
        current = self.station.captures.current if hasattr(self, "station") else None
        if current is None or self.station.shots is None:
            return overview_picture()
        now = self.station.shots.of(current.encounter_id).now
        return self.close_up if now is not None and now.kind == "close_up" else overview_picture()

    def _maker(self, camera: ShowCamera) -> Callable[[Callable[[float], None]], ShowCamera]:
        def make(on_press: Callable[[float], None]) -> ShowCamera:
            camera.on_press = on_press
            return camera

        return make


@contextmanager
def nurse_rig(engine: EngineClient, shots: ShotsConfig | None = None, **options: object) -> Iterator[NurseRig]:
    """Set everything up, and clear it away."""
    with ExitStack() as stack:
        yield NurseRig(engine, stack, shots=shots or ShotsConfig(), **options)  # type: ignore[arg-type] # as they are


def no_engine(folder: Path) -> EngineClient:
    from appliance.engine_address import EngineAddress

    return EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
