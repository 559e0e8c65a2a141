"""The reference firmware: same answers as the simulator, its limits and resets on a pty, and the AVR image in QEMU."""

import math
import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import firmware_bridge
from firmware_bridge.client import Dermatoscope
from firmware_bridge.codes import (
    BatteryState,
    Board,
    Faults,
    IlluminationMode,
    Inputs,
    Kind,
    OffReason,
    Opcode,
    ResetCause,
)
from firmware_bridge.errors import FirmwareError
from firmware_bridge.faults import damage
from firmware_bridge.flash import wait_until_ready
from firmware_bridge.outcomes import Light
from firmware_bridge.packet import Packet, encode_packet
from firmware_bridge.port import opener
from firmware_bridge.pump import Snapshot
from firmware_bridge.simulated_device import SimulatedDevice

SOURCES = Path(firmware_bridge.__file__).parent / "firmware"
RECORDED = Path(__file__).parent / "data" / "packets" / "conversation.txt"
WAIT_S = 10.0
"""A loaded machine answers late; what must be fast is asserted in device or virtual time."""
FLASH_BYTES = 32_768
RAM_BYTES = 2_048


def make(target: str, folder: Path) -> Path:
    subprocess.run(["make", "-s", "-C", str(SOURCES), f"BUILD={folder}", target], check=True, timeout=240)
    return folder


@pytest.fixture(scope="session")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host programs, built with address and undefined-behaviour checks where the compiler has them."""
    if not shutil.which("make") or not shutil.which("cc"):
        pytest.skip("needs make and a C compiler")
    folder = tmp_path_factory.mktemp("firmware")
    try:
        make("checked", folder)
    except subprocess.CalledProcessError:
        make("host", folder)
        for name in ("conversation", "firmware"):
            (folder / name).rename(folder / f"{name}.checked")
    return folder


@pytest.fixture(scope="session")
def avr(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("make") or not shutil.which("avr-gcc"):
        pytest.skip("needs make and the Debian packages gcc-avr and avr-libc")
    return make("avr", tmp_path_factory.mktemp("avr"))


# Conversations: the C core and the simulator answer the same, byte by byte


def answers_of_c(folder: Path, lines: list[str]) -> list[str]:
    done = subprocess.run(
        [folder / "conversation.checked"], input="\n".join(lines), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def answers_of_simulator(lines: list[str]) -> list[str]:
    heard: list[str] = []
    device = SimulatedDevice(watch_light=lambda now_ms, mode, level: heard.append(f"l {now_ms} {mode} {level}"))
    obey(device, "i 0 0 32767 0 0", heard)
    for line in lines:
        obey(device, line, heard)
    return heard


def obey(device: SimulatedDevice, line: str, heard: list[str]) -> None:
    kind, *rest = line.split()
    if kind == "t":
        for _ in range(int(rest[0])):
            device.advance(1)
            hear(device, heard)
    elif kind == "h":
        # Byte by byte, or the answers to several packets would be one line here and several there.
        for byte in bytes.fromhex(rest[0]) if rest else b"":
            device.receive(bytes([byte]))
            hear(device, heard)
    elif kind == "r":
        device.reset()
    else:
        buttons, dead, temperature, battery_mv, charger = map(int, rest)
        device.inputs.buttons, device.inputs.are_dead = Inputs(buttons), bool(dead)
        device.inputs.temperature_centidegrees_c, device.inputs.battery_mv = temperature, battery_mv
        device.inputs.charger = BatteryState(charger)


def hear(device: SimulatedDevice, heard: list[str]) -> None:
    packets = re.findall(rb"\0[^\0]+\0", device.take_outgoing())
    heard.extend(f"d {device.state.now_ms} {packet.hex()}" for packet in packets)


def recorded() -> tuple[list[str], list[str]]:
    lines = [line for line in RECORDED.read_text().splitlines() if line and not line.startswith("#")]
    return [line for line in lines if line[0] not in "dl"], [line for line in lines if line[0] in "dl"]


def test_simulator_answers_as_recorded() -> None:
    said, answers = recorded()
    assert answers_of_simulator(said) == answers


def test_c_core_answers_as_recorded(checked: Path) -> None:
    said, answers = recorded()
    assert answers_of_c(checked, said) == answers


def random_conversation(generator: random.Random, steps: int) -> list[str]:
    lines = ["t 1"]
    session, sequence, event = generator.randint(1, 0xFFFF), 0, 1
    for _ in range(steps):
        kind = generator.randrange(12)
        if kind == 0:
            session, sequence = generator.choice([session, session, session + 1, session - 1]) & 0xFFFF, 0
            packet = Packet(kind=Kind.COMMAND, opcode=Opcode.HELLO, session=session, sequence=0, payload=b"\1\1")
            lines.append("h " + encode_packet(packet).hex())
        elif kind == 1:
            buttons, dead = generator.randrange(8), int(generator.random() < 0.1)
            temperature = generator.choice([2500, 4300, 4799, 4800, 32767, -500])
            battery = generator.choice([0, 3299, 3300, 3449, 3450, 3900, 4150, 4300])
            lines += [f"i {buttons} {dead} {temperature} {battery} {generator.randint(1, 3)}", "t 1"]
        elif kind == 2:
            lines.append(f"t {generator.choice([1, 5, 25, 60, 120, 600, 1100, 11_000])}")
        elif kind == 3:
            lines.append("h " + generator.randbytes(generator.randint(1, 80)).hex())
        elif kind == 4:
            packet = Packet(kind=Kind.EVENT_ACK, opcode=generator.randint(0x41, 0x44), session=session, sequence=event)
            event += generator.randrange(2)
            lines.append("h " + encode_packet(packet).hex())
        elif kind == 5 and generator.random() < 0.1:
            lines += ["r", "t 1"]
        else:
            sequence = (sequence + generator.choice([0, 1, 1, 1, 1, -1, 0x8000])) & 0xFFFF
            lines.append("h " + random_command(generator, session, sequence).hex())
    return lines


def random_command(generator: random.Random, session: int, sequence: int) -> bytes:
    opcode = generator.choice([*Opcode, Opcode.ILLUMINATION, Opcode.ILLUMINATION, 0, 9, 255])
    payloads = {
        Opcode.HELLO: [b"\1\1", b"\1\2", b"\2\3", b"\1"],
        Opcode.ILLUMINATION: [
            bytes([generator.randrange(4), generator.choice([0, 1, 40, 41, 100, 101])])
            + generator.choice([0, 1, 50, 3000, 10_000, 10_001]).to_bytes(2, "little"),
            b"\0\0\0\0",
        ],
        Opcode.UPDATE: [b"UPDT", b"UPPT", bytes.fromhex("55504454")],
    }
    payload = generator.choice(payloads.get(opcode, [b"", b"", b"", b"\1"]))
    kind = generator.choice([Kind.COMMAND] * 9 + [Kind.ACK])
    wire = encode_packet(Packet(kind=kind, opcode=opcode, session=session, sequence=sequence, payload=payload))
    return damage(wire, generator) if generator.random() < 0.1 else wire


def test_c_core_and_simulator_answer_random_conversations_alike(checked: Path, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(6):
        lines = random_conversation(generator, 150)
        assert answers_of_c(checked, lines) == answers_of_simulator(lines)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_c_core_and_simulator_answer_many_random_conversations_alike(checked: Path, seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(100):
        lines = random_conversation(generator, 300)
        assert answers_of_c(checked, lines) == answers_of_simulator(lines)


def test_control_another_light_limit_is_noticed(checked: Path, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("firmware_bridge.simulated_light.HOST_SILENT_MS", 1001)
    said, _ = recorded()
    assert answers_of_simulator(said) != answers_of_c(checked, said)


def test_thermistor_table_follows_the_formula(checked: Path) -> None:
    readings = range(87, 789)
    answers = [int(line.split()[1]) for line in answers_of_c(checked, [f"a {reading}" for reading in readings])[1:]]
    for reading, answer in zip(readings, answers, strict=True):
        resistance = 10_000 * reading / (1023 - reading)
        exact_c = 1 / (math.log(resistance / 10_000) / 3950 + 1 / 298.15) - 273.15
        # 0.3 C for the straight lines and 0.4 C for the whole numbers of the table's readings.
        assert abs(answer / 100 - exact_c) < 0.7, reading


@pytest.mark.parametrize("reading", [0, 86, 789, 1023])
def test_broken_or_shorted_thermistor_is_no_temperature(checked: Path, reading: int) -> None:
    assert answers_of_c(checked, [f"a {reading}"])[1:] == ["a 32767"]


# The firmware as a program on a pty


class HostFirmware:
    """The host build running; `order` works its inputs, `light` is what its LED pins do."""

    def __init__(self, program: Path) -> None:
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        assert self._process.stdout is not None
        self.path = self._process.stdout.readline().split()[1]
        self.light = (0, 0)
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def order(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        assert self._process.wait(WAIT_S) == 0
        self._thread.join(WAIT_S)
        self._process.stdout.close()

    def _watch(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            _, mode, level = line.split()
            self.light = (int(mode), int(level))


@pytest.fixture
def firmware(checked: Path) -> Iterator[HostFirmware]:
    running = HostFirmware(checked / "firmware.checked")
    running.order("i 0 0 2500 3900 1")
    yield running
    running.close()


@contextmanager
def connected(path: str) -> Iterator[Dermatoscope]:
    with Dermatoscope(opener(path)) as device:
        assert wait_until_ready(device, WAIT_S)
        yield device


def until(device: Dermatoscope, condition: Callable[[Snapshot], bool]) -> float:
    """Wait for the snapshot that meets `condition`; return after how many seconds."""
    started_s = time.monotonic()
    while not condition(device.snapshot):
        assert time.monotonic() - started_s < WAIT_S, device.snapshot
        device.next_event(0.01)
    return time.monotonic() - started_s


def persistently(call: Callable[[], object]) -> object:
    """Call until it succeeds: right after a fault a command may be lost, and says so."""
    for _ in range(50):
        try:
            return call()
        except FirmwareError:
            time.sleep(0.02)
    return call()


def is_back(boot_id: int) -> Callable[[Snapshot], bool]:
    return lambda now: now.hello is not None and now.hello.boot_id != boot_id and now.light is Light.OFF_CONFIRMED


def light_up(device: Dermatoscope, time_limit_ms: int = 10_000) -> object:
    return persistently(lambda: device.illuminate(IlluminationMode.WHITE, 80, time_limit_ms))


def test_host_side_speaks_to_the_c_firmware(firmware: HostFirmware) -> None:
    with connected(firmware.path) as device:
        assert device.firmware().board is Board.HOST
        assert device.temperature().degrees_c == 25.0
        assert device.battery().charge_percent == 70
        light_up(device)
        until(device, lambda _: firmware.light == (1, 80))
        device.turn_off()
        until(device, lambda _: firmware.light == (0, 0))
        assert device.counters().corrupt == 0


def test_press_on_the_c_firmware_arrives(firmware: HostFirmware) -> None:
    with connected(firmware.path) as device:
        firmware.order("i 1 0 2500 3900 1")
        event = device.next_event(WAIT_S)
        assert event is not None
        assert (event.opcode, event.value) == (Opcode.SHUTTER, 1)


@pytest.mark.parametrize(
    ("order", "cause"), [("x", ResetCause.EXTERNAL), ("z", ResetCause.WATCHDOG)], ids=["reset", "hang"]
)
def test_c_firmware_comes_back_from_reset_and_hang_with_the_light_off(
    firmware: HostFirmware, order: str, cause: ResetCause
) -> None:
    with connected(firmware.path) as device:
        light_up(device)
        until(device, lambda _: firmware.light == (1, 80))
        assert device.snapshot.hello is not None
        firmware.order(order)
        until(device, is_back(device.snapshot.hello.boot_id))
        assert device.snapshot.hello is not None
        assert device.snapshot.hello.reset_cause is cause
        until(device, lambda _: firmware.light == (0, 0))


def test_c_firmware_turns_the_light_off_when_the_host_falls_silent(firmware: HostFirmware) -> None:
    with connected(firmware.path) as device:
        light_up(device)
    started_s = time.monotonic()
    while firmware.light != (0, 0):
        assert time.monotonic() - started_s < WAIT_S
        time.sleep(0.01)
    with connected(firmware.path) as device:
        assert device.status().off_reason is OffReason.HOST_SILENT


def test_c_firmware_survives_a_flood_from_the_host(firmware: HostFirmware, seed: int) -> None:
    generator = random.Random(seed)
    line = os.open(firmware.path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    for _ in range(200):
        try:
            os.write(line, generator.randbytes(500))
        except BlockingIOError:
            time.sleep(0.002)
    os.close(line)
    with connected(firmware.path) as device:
        assert device.counters().corrupt + device.counters().oversized > 0


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_c_firmware_comes_back_within_a_second_five_hundred_times(checked: Path) -> None:
    """Real time, real pty: the watchdog's 250 ms are part of the second after a hang."""
    running = HostFirmware(checked / "firmware.checked")
    running.order("i 0 0 2500 3900 1")
    for order in ("x", "z"):
        times = []
        with connected(running.path) as device:
            for _ in range(500):
                light_up(device)
                assert device.snapshot.hello is not None
                boot_id = device.snapshot.hello.boot_id
                running.order(order)
                times.append(until(device, is_back(boot_id)))
        times.sort()
        print(f"{order}: median {times[250]:.3f} s, p95 {times[475]:.3f} s, max {times[-1]:.3f} s")  # noqa: T201 - result
        assert times[-1] <= 1.0
    running.close()


# The AVR image


def test_avr_image_fits_the_board(avr: Path) -> None:
    text = subprocess.run(["avr-size", avr / "firmware.elf"], capture_output=True, text=True, check=True).stdout
    text_bytes, data_bytes, bss_bytes = map(int, text.splitlines()[1].split()[:3])
    # The boot loader takes 512 bytes of flash; half of the RAM is left for the stack.
    assert text_bytes + data_bytes < FLASH_BYTES - 512
    assert data_bytes + bss_bytes < RAM_BYTES / 2


@pytest.fixture(scope="module")
def board(avr: Path) -> Iterator[str]:
    """The path of the line of an emulated Arduino Uno that runs the image."""
    if not shutil.which("qemu-system-avr"):
        pytest.skip("needs the Debian package qemu-system-misc")
    command = ["qemu-system-avr", "-machine", "arduino-uno", "-bios", str(avr / "firmware.elf")]
    machine = subprocess.Popen(
        [*command, "-display", "none", "-monitor", "none", "-serial", "pty"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert machine.stdout is not None
    try:
        found = re.search(r"/dev/pts/\d+", machine.stdout.readline())
        assert found
        yield found[0]
    finally:
        machine.kill()
        machine.wait(WAIT_S)
        machine.stdout.close()


def test_host_side_speaks_to_the_avr_image(board: str) -> None:
    with connected(board) as device:
        firmware = persistently(device.firmware)
        assert getattr(firmware, "board", None) is Board.ATMEGA328P
        status = persistently(device.status)
        # QEMU has neither ports nor ADC: the firmware notices, and says so.
        assert getattr(status, "faults", None) == Faults.NO_TEMPERATURE | Faults.INPUTS_DEAD
        assert getattr(persistently(device.battery), "state", None) is BatteryState.ABSENT


def test_avr_image_caps_and_ends_the_light(board: str) -> None:
    with connected(board) as device:
        assert getattr(light_up(device, 300), "level_percent", None) == 40
        until(device, lambda now: now.status is not None and now.status.off_reason is OffReason.TIME_LIMIT)
        assert device.snapshot.light is Light.OFF_CONFIRMED


def test_avr_image_turns_the_light_off_when_the_host_falls_silent(board: str) -> None:
    reason: object = None
    # An emulated clock may run slower than ours, and a new session that comes too early turns the light off itself.
    for silence_s in (1.3, 3.0, 10.0):
        with connected(board) as device:
            light_up(device)
        time.sleep(silence_s)
        with connected(board) as device:
            reason = getattr(persistently(device.status), "off_reason", None)
        if reason is OffReason.HOST_SILENT:
            break
    assert reason is OffReason.HOST_SILENT
