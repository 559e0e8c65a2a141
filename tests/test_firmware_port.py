"""Ports that come and go: pty, socket, unplugging, a flood, and the device being absent."""

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from firmware_bridge import port as port_module
from firmware_bridge.client import Dermatoscope
from firmware_bridge.codes import Board, IlluminationMode, Inputs, NakReason, Opcode
from firmware_bridge.errors import CommandRefusedError, DeviceAbsentError, FirmwareError, PortError
from firmware_bridge.faults import FaultRates, FaultyLine
from firmware_bridge.flash import wait_until_ready
from firmware_bridge.outcomes import Light, LinkState
from firmware_bridge.port import Port, SerialPort, find_ports, opener
from firmware_bridge.pump import Snapshot
from firmware_bridge.simulated_device import SimulatedDevice
from firmware_bridge.simulator import PtyServer, SimulatedPort, SocketServer

WAIT_S = 10.0


def until(device: Dermatoscope, condition: Callable[[Snapshot], bool]) -> None:
    end_s = time.monotonic() + WAIT_S
    while not condition(device.snapshot):
        assert time.monotonic() < end_s, device.snapshot
        device.next_event(0.01)


def test_client_speaks_to_the_simulator_on_a_pty() -> None:
    with PtyServer(SimulatedDevice()) as server, Dermatoscope(opener(server.path)) as device:
        assert wait_until_ready(device, WAIT_S)
        assert device.firmware().board is Board.SIMULATOR
        assert device.illuminate(IlluminationMode.POLARISED, 60, 2000).level_percent == 60
        assert server.device.state.light.mode is IlluminationMode.POLARISED
        device.turn_off()
        assert device.snapshot.light is Light.OFF_CONFIRMED
        server.device.inputs.buttons = Inputs.SHUTTER
        event = device.next_event(WAIT_S)
        assert event is not None
        assert event.opcode is Opcode.SHUTTER


def test_refusal_reaches_the_caller_as_a_number() -> None:
    simulated = SimulatedDevice()
    simulated.inputs.battery_mv = 3000
    simulated.advance(1)  # it looks at its battery
    with Dermatoscope(lambda: SimulatedPort(simulated)) as device:
        assert wait_until_ready(device, WAIT_S)
        with pytest.raises(CommandRefusedError) as refused:
            device.illuminate(IlluminationMode.WHITE, 60, 2000)
    assert refused.value.reason == NakReason.BATTERY


def test_absent_device_costs_nothing_and_every_command_says_so_at_once() -> None:
    with Dermatoscope(opener("/dev/dermstation-there-is-none")) as device:
        started_s = time.monotonic()
        for call in (device.turn_off, device.status, device.temperature, device.battery, device.firmware):
            with pytest.raises(DeviceAbsentError):
                call()
        assert device.next_event(0) is None
        assert time.monotonic() - started_s < 1.0
        assert device.snapshot == Snapshot(state=LinkState.ABSENT, light=Light.UNCONFIRMED)


def test_unplugging_is_noticed_and_plugging_in_again_heals() -> None:
    simulated = SimulatedDevice()
    ports: list[SimulatedPort] = []

    def open_port() -> Port:
        ports.append(SimulatedPort(simulated))
        return ports[-1]

    with Dermatoscope(open_port) as device:
        assert wait_until_ready(device, WAIT_S)
        device.illuminate(IlluminationMode.WHITE, 60, 10_000)
        ports[-1].is_unplugged = True
        until(device, lambda now: now.light is Light.UNCONFIRMED)
        until(device, lambda now: now.state is LinkState.READY and now.light is Light.OFF_CONFIRMED)
    assert len(ports) == 2


def test_port_that_goes_away_is_one_error() -> None:
    server = PtyServer(SimulatedDevice())
    port = SerialPort(server.path)
    os.close(server._device_end)
    with pytest.raises(PortError):
        port.read(0.01)
    with pytest.raises(PortError):
        port.write(b"\0")
    port.close()
    os.close(server._host_end)


def test_readiness_without_data_is_one_error(monkeypatch: pytest.MonkeyPatch) -> None:
    # What pyserial sees of an unplugged adapter: the descriptor is readable and read returns nothing.
    server = PtyServer(SimulatedDevice())
    port = SerialPort(server.path)
    reading, writing = os.pipe()
    os.close(writing)
    monkeypatch.setattr(port._serial, "fd", reading)
    with pytest.raises(PortError):
        port.read(0.1)
    port._serial.fd = None
    os.close(reading)
    server._close()


def test_only_one_host_has_the_port() -> None:
    server = PtyServer(SimulatedDevice())
    first = SerialPort(server.path)
    with pytest.raises(PortError):
        SerialPort(server.path)
    first.close()
    SerialPort(server.path).close()
    server._close()


def test_wake_ends_a_waiting_read() -> None:
    server = PtyServer(SimulatedDevice())
    port = SerialPort(server.path)
    timer = threading.Timer(0.05, port.wake)
    timer.start()
    started_s = time.monotonic()
    assert port.read(WAIT_S) == b""
    assert time.monotonic() - started_s < WAIT_S / 2
    timer.join()
    port.close()
    server._close()


def test_ports_are_found_by_stable_name_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own").touch()
    (tmp_path / "by-id").mkdir()
    (tmp_path / "by-id" / "usb-Arduino").touch()
    (tmp_path / "by-id" / "usb-Receipt_Printer").touch()
    monkeypatch.setattr(port_module, "STABLE_NAMES", (str(tmp_path / "own"), str(tmp_path / "by-id")))
    assert find_ports() == [str(tmp_path / "own"), str(tmp_path / "by-id" / "usb-Arduino")]
    monkeypatch.setattr(port_module, "STABLE_NAMES", ())
    with pytest.raises(PortError, match="plugged in"):
        opener(None)()


def test_each_candidate_has_its_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    with PtyServer(SimulatedDevice()) as one, PtyServer(SimulatedDevice()) as other:
        monkeypatch.setattr(port_module, "STABLE_NAMES", (one.path, other.path))
        open_port = opener(None)
        opened = [open_port(), open_port()]
        assert [port._serial.port for port in opened if isinstance(port, SerialPort)] == [one.path, other.path]
        for port in opened:
            port.close()


def test_flood_neither_blocks_nor_confuses(seed: int) -> None:
    simulated = SimulatedDevice()
    generator = random.Random(seed)
    lines = FaultyLine(FaultRates(), generator), FaultyLine(FaultRates(), generator)
    with Dermatoscope(lambda: SimulatedPort(simulated, lines=lines)) as device:
        assert wait_until_ready(device, WAIT_S)
        lines[1].is_flooding = lines[0].is_silent = True
        until(device, lambda now: now.state is LinkState.OPENING)
        started_s = time.monotonic()
        with pytest.raises(FirmwareError):
            device.turn_off()
        assert time.monotonic() - started_s < 3.0
        lines[1].is_flooding = lines[0].is_silent = False
        until(device, lambda now: now.state is LinkState.READY and now.light is Light.OFF_CONFIRMED)


def test_socket_serves_one_connection_after_the_other(tmp_path: Path) -> None:
    hello = bytes.fromhex("0007010101023412010701013286d1ab00")
    with SocketServer(SimulatedDevice(), tmp_path / "line") as server:
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as machine:
                machine.settimeout(WAIT_S)
                machine.connect(str(server.path))
                machine.sendall(hello)
                assert machine.recv(100).startswith(b"\0")
    assert not (tmp_path / "line").exists()


def test_pulling_the_plug_of_the_socket_closes_it(tmp_path: Path) -> None:
    with SocketServer(SimulatedDevice(), tmp_path / "line") as server, socket.socket(socket.AF_UNIX) as machine:
        machine.settimeout(WAIT_S)
        machine.connect(str(server.path))
        machine.sendall(bytes.fromhex("0007010101023412010701013286d1ab00"))
        assert machine.recv(100)
        server.hang_up()
        assert machine.recv(100) == b""
