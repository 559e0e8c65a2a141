"""The camera on the kernel's own uvcvideo driver, in a virtual machine: bytes, buttons, faults, plugs (D1, D3)."""

import io
import logging
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rig import guest_kernel
from rig.usbip import UsbIpServer
from rig.uvc_sim import CameraSimulator, Fault
from rig.vm import VirtualMachine

from firmware_bridge.codes import Inputs
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import SocketServer

pytestmark = [pytest.mark.vm, pytest.mark.timeout(600)]

logger = logging.getLogger(__name__)

OVERVIEW, DERMATOSCOPE = 0, 1
BY_ID = "/dev/v4l/by-id/usb-dermstation_rig_{}-video-index0"
RECOVERY_MAX_S = 5.0
CYCLES = 10
PRESSES_MAX = 5
USUAL = 0.9
"""Share of the cycles that is held to the limit: emulation on a machine with other work stands still for seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rig:
    """Host and guest of one session."""

    vm: VirtualMachine
    cameras: tuple[CameraSimulator, CameraSimulator]
    plugs: tuple[UsbIpServer, UsbIpServer]
    microcontroller: SimulatedDevice
    line: SocketServer

    def call(self, function: str, **arguments: Any) -> Any:
        return self.vm.call(f"rig.guest_station:{function}", **arguments)

    def sent(self, sha256: str) -> bool:
        """Tell whether the overview camera sent exactly these bytes as a whole frame."""
        return any(frame.sha256 == sha256 for frame in self.cameras[OVERVIEW].sent)


def skin(size: tuple[int, int], seed: int) -> bytes:
    """Draw a JPEG with a sensor's noise."""
    noise = np.random.default_rng(seed).normal(0, 6, (size[1], size[0], 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(noise + np.array((205, 160, 135)), 0, 255).astype(np.uint8)).save(
        buffer, "JPEG", quality=75
    )
    return buffer.getvalue()


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    if missing := guest_kernel.missing_tools():
        pytest.skip(f"not installed: {', '.join(missing)}; see tests/rig/debian-packages.txt")
    try:
        kernel = guest_kernel.prepare()
    except RuntimeError as error:
        pytest.skip(f"the guest's kernel cannot be fetched: {error}")
    overview = CameraSimulator(
        {size: skin(size, seed) for seed, size in enumerate([(1280, 720), (640, 480)])}, "Overview camera", "SN1"
    )
    dermatoscope = CameraSimulator({}, "Dermatoscope", "SN2")
    microcontroller = SimulatedDevice()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        line = stack.enter_context(SocketServer(microcontroller, folder / "line"))
        plugs = (
            stack.enter_context(UsbIpServer(overview, "overview")),
            stack.enter_context(UsbIpServer(dermatoscope, "dermatoscope")),
        )
        vm = VirtualMachine(kernel, usbip_ports=[plug.port for plug in plugs], serial_socket=line.path)
        stack.enter_context(vm)
        vm.call("rig.guest_usbip:attach", number=OVERVIEW)
        vm.call("rig.guest_usbip:attach", number=DERMATOSCOPE)
        vm.call("rig.guest_usbip:wait_for_cameras", count=2, timeout_s=60.0)
        cameras = (overview, dermatoscope)
        rig = Rig(vm=vm, cameras=cameras, plugs=plugs, microcontroller=microcontroller, line=line)
        camera = {
            "kind": "v4l2",
            "overview": {
                "device": BY_ID.format("Overview_camera_SN1"),
                "width_px": 1280,
                "height_px": 720,
                "frames_per_s": 15,
            },
            "dermatoscope": {"width_px": 320, "height_px": 240, "frames_per_s": 5, "hold_series": True},
        }
        serial = vm.call("rig.guest_usbip:wait_for_serial_line")
        logger.info("the guest answered %.1f s after power-on", vm.boot_s)
        # Without a shot list: these tests choose the camera themselves.
        config = {"camera": camera, "microcontroller": {"enabled": True, "port": serial}, "shots": {"usual": []}}
        rig.call("start", config=config)
        assert rig.call("wait_for_state", wanted="ready", timeout_s=60.0)["state"] == "ready", vm.console.read_text()
        rig.call("leaks", timeout_s=60.0)  # comes back when the buttons are open too
        yield rig
        rig.call("stop")


def test_kept_jpeg_is_byte_for_byte_what_the_camera_sent(rig: Rig) -> None:
    rig.cameras[OVERVIEW].subject = "somebody"
    rig.call("watch", seconds=0.5)
    kept = rig.call("photo")
    assert kept["media_type"] == "image/jpeg"
    assert kept["subject"] == "somebody"
    assert rig.sent(kept["sha256"])


def test_names_by_id_and_by_role_lead_to_the_two_cameras(rig: Rig) -> None:
    nodes = rig.vm.call("rig.guest_usbip:nodes")
    assert nodes["/dev/dermstation/camera"] == nodes[BY_ID.format("Overview_camera_SN1")]
    assert nodes["/dev/dermstation/dermatoscope"] == nodes[BY_ID.format("Dermatoscope_SN2")]


def press_until(
    rig: Rig,
    press: Callable[[], None],
    let_go: Callable[[], None] = lambda: None,
    is_done: Callable[[dict[str, Any]], bool] = lambda outcome: "media_type" in outcome,
) -> dict[str, Any]:
    """Press until a photo is kept, or something else is done, and return what became of the last press.

    On a loaded machine the emulated guest may be half a second late with a picture or with a press, and then it is
    right that nothing is kept.
    """
    outcome: dict[str, Any] = {}
    for _ in range(PRESSES_MAX):
        rig.call("watch", seconds=0.5)
        number = rig.call("wait_for_press", number=0)["number"]
        press()
        outcome = rig.call("wait_for_press", number=number + 1)
        let_go()
        if outcome["number"] > number and is_done(outcome):
            break
        logger.info("not done: press %d of %d, %s", outcome["number"], number + 1, outcome["sentence"])
    return outcome


def test_buttons_on_both_bodies_grip_and_foot_fire_the_same_shutter(rig: Rig) -> None:
    encounter_id = rig.call("open_encounter")
    inputs = rig.microcontroller.inputs

    def hold(switch: Inputs) -> None:
        inputs.buttons = switch

    for press in (rig.cameras[OVERVIEW].press, partial(hold, Inputs.SHUTTER), partial(hold, Inputs.FOOT_SWITCH)):
        kept = press_until(rig, press, partial(hold, Inputs(0)))
        assert kept["encounter_id"] == encounter_id, kept
        assert rig.sent(kept["sha256"])


def test_dermatoscopes_button_shows_its_picture_first_and_keeps_it_next(rig: Rig) -> None:
    rig.call("open_encounter")
    press = rig.cameras[DERMATOSCOPE].press
    shown = press_until(rig, press, is_done=lambda outcome: "Press again" in (outcome["sentence"] or ""))
    kept = press_until(rig, press)
    rig.call("select", role="overview")
    assert "Press again" in shown["sentence"]
    assert (kept.get("media_type"), kept.get("modality")) == ("image/png", "DMS"), kept


def test_exposure_focus_and_white_balance_are_held_and_let_go(rig: Rig) -> None:
    controls = rig.cameras[DERMATOSCOPE].controls
    automatic = [(1, 0x02), (1, 0x08), (2, 0x0B)]
    # A photo of a test before this one, kept in the same visit, holds them too.
    rig.call("hold", is_held=False)
    rig.call("watch", seconds=1.0)
    before = [controls[key].value for key in automatic]
    rig.call("hold", is_held=True)
    rig.call("watch", seconds=1.0)
    held = [controls[key].value for key in automatic]
    rig.call("hold", is_held=False)
    rig.call("watch", seconds=1.0)
    assert before == [8, 1, 1]
    assert held == [1, 0, 0]
    assert [controls[key].value for key in automatic] == before


def test_serial_line_is_pulled_and_comes_back(rig: Rig) -> None:
    assert rig.call("wait_for_microcontroller", wanted="ready") == "ready"
    rig.line.hang_up()
    assert rig.call("wait_for_microcontroller", wanted="absent") == "absent"
    assert rig.call("photo")["media_type"] == "image/jpeg", "capture waits for the microcontroller"
    assert rig.call("wait_for_microcontroller", wanted="ready") == "ready"


def test_preview_is_quick_and_fresh(rig: Rig) -> None:
    rig.call("photo")
    seen = rig.call("watch", seconds=5.0)
    kept = rig.call("photo")
    rate, age_s, wait_s = seen["frames"] / 5, seen["oldest_s"], kept["seconds"]
    logger.info("preview %.1f frames/s, oldest %.2f s; photo kept in %.2f s", rate, age_s, wait_s)
    logger.info("refused before that: %s", kept["refusals"])
    assert seen["frames"] > 5


@pytest.mark.parametrize("fault", ["freeze", "truncate", "foreign_size", "flagged", "stall"])
def test_faulty_camera_keeps_nothing_and_is_well_again_by_itself(rig: Rig, fault: Fault) -> None:
    camera = rig.cameras[OVERVIEW]
    rig.call("photo")
    camera.subject = f"a camera with the fault {fault}"
    camera.faults.add(fault)
    seen = rig.call("wait_for_state", wanted="off")
    refused = rig.call("try_photo")
    camera.subject = f"cured of {fault}"
    camera.faults.clear()
    assert seen["state"] == "off", seen
    assert "refused" in refused, refused
    well = rig.call("photo", timeout_s=20.0)
    assert_subject(rig, well, f"cured of {fault}")
    assert rig.sent(well["sha256"])


def assert_subject(rig: Rig, kept: dict[str, Any], subject: str) -> None:
    """A photo of this subject was kept; otherwise where the station and the guest's kernel hang is printed."""
    if kept.get("subject") != subject:
        logger.error("no photo of %s: %s", subject, _where_it_hangs(rig))
    assert kept.get("subject") == subject, kept


def replug_cycles(rig: Rig, count: int, seed: int) -> list[float]:
    """Pull the plug at random moments and put it back in; return the seconds from the camera's name to a kept photo.

    Before that the guest's USB core enumerates it, which takes a second or more under emulation and is not ours.
    """
    chance = random.Random(seed)
    camera, plug = rig.cameras[OVERVIEW], rig.plugs[OVERVIEW]
    times = []
    for number in range(count):
        camera.subject = f"before unplugging {number}"
        time.sleep(chance.uniform(0, 0.3))
        if chance.random() < 0.5:
            camera.unplug_in_frame()
            deadline_s = time.monotonic() + 5
            while camera.is_plugged and time.monotonic() < deadline_s:
                time.sleep(0.01)
        plug.cut()
        camera.subject = f"cycle {number}"
        result = rig.call("replug", number=OVERVIEW)
        assert result["gone"]["state"] == "off", result
        assert "refused" in result["refused_while_gone"], f"cycle {number} kept a photo without a camera"
        assert_subject(rig, result, f"cycle {number}")
        assert rig.sent(result["sha256"])
        times.append(result["seconds"] - result["named_s"])
        logger.info("cycle %d: enumerated in %.2f s, then kept in %.2f s", number, result["named_s"], times[-1])
        if times[-1] > RECOVERY_MAX_S / 2:
            logger.info("refused meanwhile: %s", Counter(result["refusals"]).most_common())
    return times


def _where_it_hangs(rig: Rig) -> str:
    stacks: dict[str, str] = rig.call("stacks")
    kernel = rig.vm.call("rig.guest_usbip:kernel_log")
    return "\n".join([*(f"{name}:\n{stack}" for name, stack in stacks.items()), *kernel])


def test_button_works_again_after_replugging(rig: Rig, seed: int) -> None:
    replug_cycles(rig, 1, seed)
    rig.call("leaks")  # comes back when the button is open: it is made after the picture, and looked for once a second
    number = rig.call("wait_for_press", number=0)["number"]
    assert press_until(rig, rig.cameras[OVERVIEW].press)["number"] > number


def assert_nothing_leaked(rig: Rig, before: dict[str, list[str]], after: dict[str, list[str]]) -> None:
    """The same threads and as many descriptors, but for a camera's thread that the guest's kernel did not give back.

    A kernel that fails itself keeps the thread that was in it and what that held: the station has given it up, and its
    cycle has passed. The failure that was known is avoided (camera/DESIGN.md, "What is gone is let go of").
    """
    failures = rig.vm.call("rig.guest_usbip:kernel_failures")
    lost = Counter(after["threads"]) - Counter(before["threads"])
    if failures:
        logger.warning("threads that the guest's kernel kept: %s; it said: %s", dict(lost), "\n\n".join(failures))
    assert lost.total() <= len(failures), lost
    assert all(name.startswith("camera-") for name in lost), lost
    assert not Counter(before["threads"]) - Counter(after["threads"])
    if not failures:
        more, fewer = (
            Counter(one["descriptors"]) - Counter(other["descriptors"])
            for one, other in ((after, before), (before, after))
        )
        assert more.total() == fewer.total(), (more, fewer)  # a camera may be another device than before


def test_what_is_left_open_is_seen(rig: Rig) -> None:
    """The control of the next test."""
    before = rig.call("leaks")
    descriptor = rig.call("leave_open", path="/dev/null")
    after = rig.call("leaks")
    rig.call("close_left_open", descriptor=descriptor)
    with pytest.raises(AssertionError, match="/dev/null"):
        assert_nothing_leaked(rig, before, after)
    assert_nothing_leaked(rig, before, rig.call("leaks"))


@pytest.mark.timeout(7200)  # 500 cycles by --cycles take 20 minutes, on a busy machine more
def test_replugging_recovers_within_five_seconds_and_leaks_nothing(
    rig: Rig, seed: int, request: pytest.FixtureRequest
) -> None:
    replug_cycles(rig, 2, seed)
    before = rig.call("leaks")
    count = request.config.getoption("--cycles") or CYCLES
    times = sorted(replug_cycles(rig, count, seed))
    after = rig.call("leaks")
    usual_s = times[int(len(times) * USUAL)]
    logger.info(
        "%d cycles: median %.2f s, 90 %% %.2f s, longest %.2f s", count, statistics.median(times), usual_s, times[-1]
    )
    assert usual_s <= RECOVERY_MAX_S
    assert_nothing_leaked(rig, before, after)
    assert any(name.startswith("/dev/input/event") for name in after["descriptors"]), "the buttons were not counted"
