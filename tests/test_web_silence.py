"""N8: nothing leaves the box but mDNS, whatever runs on it: station, front, engine, and the kiosk's browser.

The box is a network namespace with a way out to everywhere; at the other end of its cable everything is counted. A
minute, or an hour with `--slow`.
"""

import json
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kiosk_process import SETTINGS
from kiosk_station import picture_folder
from records_boxes import new_box
from rig import boot_files, netns
from rig.avahi import Watch
from rig.netns import Machine
from test_web_lan_flood import json_line

RIG = Path(netns.__file__).parent
SHORT_S, LONG_S = 60.0, 3600.0
PORT, LAN_PORT = 8080, 8443
MDNS = {"udp 224.0.0.251 5353", "udp ff02::fb 5353"}
OF_THE_KERNEL = re.compile(
    r"igmp 224\.0\.0\.22|.* of the kernel|arp for 10\.77\.0\.2|"
    r"neighbour solicitation (ff02::1:ff00:2|fd00::2|fe80::\S+)"
)
TALK_S = 10.0
START_S = 120.0
ABROAD = "198.51.100.7"
PLANTED = f"""
import socket
try:
    socket.getaddrinfo("updates.example", 443)
except OSError:
    pass
with socket.socket() as out:
    out.settimeout(1.0)
    out.connect_ex(("{ABROAD}", 443))
"""

pytestmark = pytest.mark.network


@pytest.fixture
def machines() -> Iterator[tuple[Machine, Machine]]:
    if reason := netns.reason_to_skip():
        pytest.skip(reason)
    with netns.two_machines() as (box, outside):
        for family, address in (("-4", outside.address), ("-6", "fd00::2")):
            if family == "-6":
                box.run("ip", "addr", "add", "fd00::1/64", "dev", box.interface, "nodad")
                outside.run("ip", "addr", "add", "fd00::2/64", "dev", outside.interface, "nodad")
            box.run("ip", family, "route", "add", "default", "via", address)
        yield box, outside


@contextmanager
def tapped(box: Machine, outside: Machine) -> Iterator[dict[str, int]]:
    """Count what the box sends until the block ends; it is told afterwards."""
    told: dict[str, int] = {}
    mac = json.loads(box.run("ip", "-json", "link", "show", box.interface))[0]["address"]
    command = [sys.executable, str(RIG / "cable_tap.py"), outside.interface, mac]
    with outside.started(*command) as process:
        Watch(process).wait_for("listening")
        yield told
        assert process.stdin is not None
        process.stdin.close()
        process.stdin = None
        told.update(json_line(process))


def sent_out(told: dict[str, int]) -> set[str]:
    """Leave out mDNS, and what the kernel does by itself on its own cable.

    Finding the router's hardware address is no request to anybody: the router answers here, so that a packet would
    follow and be counted. A neighbour that is asked for at its own link-local address was known before.
    """
    return {name for name in told if name not in MDNS and not OF_THE_KERNEL.fullmatch(name)}


@contextmanager
def everything(box: Machine, folder: Path, *, is_talkative: bool = False) -> Iterator[None]:
    """Run what runs on a box, as far as it does without a model and a screen."""
    made = new_box(folder / "records")
    made.store.close()
    (folder / "pictures").mkdir()
    settings = folder / "dermstation.toml"
    text = SETTINGS.format(
        records=folder / "records", pictures=picture_folder(folder / "pictures"), socket=folder / "engine.sock"
    )
    text = text.replace("enabled = false", f'enabled = true\nport = {LAN_PORT}\nfolder = "{folder / "lan"}"')
    settings.write_text(f'{text}bundle = "{folder / "no-model"}"\n[station]\nport = {PORT}\n')
    dermstation = str(Path(sys.executable).with_name("dermstation"))
    with (
        box.started(dermstation, "engine", "--config", str(settings)) as engine,
        box.started(dermstation, "serve", "--config", str(settings)) as station,
        box.started(*browser(folder, is_talkative=is_talkative)) as kiosk,
    ):
        wait_for(lambda: LAN_PORT in listening(box))
        wait_for(lambda: bool(box.run("ss", "-tnH", "state", "established", f"( dport = :{PORT} )").strip()))
        yield
        assert [process.poll() for process in (station, kiosk, engine)] == [None, None, None]


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait for four processes to start, on a machine that may be busy."""
    deadline_s = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline_s, "it did not start"
        time.sleep(0.2)


def listening(box: Machine) -> set[int]:
    lines = box.run("ss", "--listening", "--tcp", "--numeric", "--no-header").splitlines()
    return {int(line.split()[3].rpartition(":")[2]) for line in lines}


def browser(folder: Path, *, is_talkative: bool = False) -> list[str]:
    """Chromium with the flags of its unit and the managed policy; headless in place of a screen."""
    unit = (boot_files.SOURCE / "units/dermstation-kiosk.service").read_text()
    flags = [
        word
        for word in shlex.split(unit.partition("ExecStart=")[2].partition("\nUser=")[0].replace("\\\n", " "))
        if word.startswith("--") and not word.startswith(("--ozone", "--user-data", "--kiosk")) and word != "--"
    ]
    if is_talkative:
        flags = [flag for flag in flags if "host-resolver" not in flag]
    chromium = ["chromium", "--headless=new", "--no-sandbox", "--disable-gpu", *flags]
    chromium += [f"--user-data-dir={folder / 'profile'}", f"http://127.0.0.1:{PORT}/"]
    policy = boot_files.SOURCE / "chromium/dermstation.json"
    script = """set -e
        mount -t tmpfs tmpfs /etc/chromium
        mkdir -p /etc/chromium/policies/managed
        cp "$0" /etc/chromium/policies/managed
        exec "$@" """
    return ["unshare", "--mount", "--propagation=private", "sh", "-c", script, str(policy), *chromium]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the Debian package chromium")
@pytest.mark.parametrize(
    "seconds", [SHORT_S, pytest.param(LONG_S, marks=[pytest.mark.slow, pytest.mark.timeout(LONG_S + 300)])]
)
def test_nothing_leaves_the_box_but_mdns(machines: tuple[Machine, Machine], tmp_path: Path, seconds: float) -> None:
    box, outside = machines
    with tapped(box, outside) as told, everything(box, tmp_path):
        time.sleep(seconds)
    sys.stdout.write(f"seconds={seconds:.0f} {told}\n")
    assert sent_out(told) == set()
    # The box said that it is there: the tap hears.
    assert set(told) & MDNS


def test_control_a_request_to_the_outside_is_seen(machines: tuple[Machine, Machine]) -> None:
    box, outside = machines
    with tapped(box, outside) as told:
        box.run(sys.executable, "-c", PLANTED)
    assert f"tcp {ABROAD} 443" in sent_out(told)
    # Asking for a name is a request too.
    assert [name for name in sent_out(told) if re.fullmatch(r"udp \S+ 53 updates\.example", name)]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs the Debian package chromium")
def test_control_a_browser_that_may_resolve_names_asks_its_maker(
    machines: tuple[Machine, Machine], tmp_path: Path
) -> None:
    box, outside = machines
    with tapped(box, outside) as told, everything(box, tmp_path, is_talkative=True):
        time.sleep(TALK_S)
    sys.stdout.write(f"{told}\n")
    assert sent_out(told) != set()
