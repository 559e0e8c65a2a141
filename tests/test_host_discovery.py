"""The station as Avahi sees it from another machine, and the names it goes by."""

import contextlib
import itertools
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from rig import avahi, netns
from rig.avahi import Avahi, Found, Watch
from rig.netns import Machine

from appliance.errors import ConfigurationError
from appliance.host.addresses import is_beyond_loopback, lan_addresses
from appliance.host.discovery import Advertisement
from appliance.host.names import LABEL_MAX_BYTES, host_name, instance_names

ADVERTISE = str(Path(avahi.__file__).with_name("advertise.py"))
DERMSTATION, HTTPS = "_dermstation._tcp", "_https._tcp"
PORT = 8080
EVERYWHERE = "0.0.0.0"  # noqa: S104  # what the tests are about


@dataclass(frozen=True, slots=True, kw_only=True)
class Lan:
    """A station's machine, a neighbour, and the neighbour's Avahi."""

    station: Machine
    neighbour: Machine
    avahi: Avahi

    @contextlib.contextmanager
    def advertising(
        self, name: str = "dermstation", host: str = EVERYWHERE, machine: Machine | None = None, *how: str
    ) -> Iterator[subprocess.Popen[str]]:
        command = (sys.executable, ADVERTISE, name, host, str(PORT), *how)
        with (machine or self.station).started(*command) as process:
            yield process

    def found_once(self, instances: set[str]) -> list[Found]:
        """Wait until the neighbour's Avahi has resolved these instances and no others, one on each machine.

        One look takes what is there: of a name that was left, the old address stays in caches for a second.
        """
        addresses = {self.station.address, self.neighbour.address}
        ends_s = time.monotonic() + 60
        while True:
            seen = self.avahi.browse(DERMSTATION)
            if ({one.instance for one in seen}, {one.address for one in seen}) == (instances, addresses):
                return seen
            assert time.monotonic() < ends_s, seen


@pytest.fixture(scope="module")
def lan(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lan]:
    if reason := netns.reason_to_skip() or avahi.reason_to_skip():
        pytest.skip(reason)
    with (
        netns.two_machines() as (station, neighbour),
        avahi.avahi_on(neighbour, tmp_path_factory.mktemp("avahi")) as running,
    ):
        yield Lan(station=station, neighbour=neighbour, avahi=running)


def wait_until_advertised(process: subprocess.Popen[str]) -> None:
    Watch(process).wait_for("advertised:")


@pytest.mark.network
def test_avahi_resolves_both_services_from_another_machine(lan: Lan) -> None:
    with lan.advertising() as process:
        wait_until_advertised(process)
        found = lan.avahi.browse(DERMSTATION, HTTPS)
    expected = Found(
        instance="dermstation",
        host="dermstation.local",
        address=lan.station.address,
        port=PORT,
        text=frozenset({"txtvers=1", "version=0.1.0", "state=starting", "path=/"}),
    )
    assert found == [expected, expected]


@pytest.mark.network
def test_sigterm_withdraws_it_at_once(lan: Lan) -> None:
    with lan.avahi.watching(DERMSTATION) as watch, lan.advertising("withdrawn") as process:
        wait_until_advertised(process)
        watch.wait_for("withdrawn")
        process.send_signal(signal.SIGTERM)
        # Without a goodbye a neighbour would keep it for the 75 minutes of its records.
        watch.wait_for("-;")
        assert process.wait(20) == 0
    assert lan.avahi.browse(DERMSTATION, HTTPS) == []


@pytest.mark.network
@pytest.mark.parametrize(("service_type", "taken"), [(DERMSTATION, "dermstation"), (HTTPS, "Dermstation")])
def test_a_name_that_avahi_has_already_moves_both_services(lan: Lan, service_type: str, taken: str) -> None:
    with lan.avahi.published("-s", taken, service_type, "9"), lan.advertising() as process:
        wait_until_advertised(process)
        ours = [(found.instance, found.host) for found in lan.avahi.browse(DERMSTATION, HTTPS) if found.port == PORT]
    assert ours == [("dermstation-2", "dermstation-2.local")] * 2


@pytest.mark.network
def test_a_host_name_that_another_machine_has_is_not_taken(lan: Lan) -> None:
    with lan.avahi.published("-a", "-R", "dermstation.local", "10.77.0.77"), lan.advertising() as process:
        wait_until_advertised(process)
        (found,) = lan.avahi.browse(DERMSTATION)
    assert (found.instance, found.host) == ("dermstation-2", "dermstation-2.local")


@pytest.mark.network
def test_two_stations_of_one_name_end_with_two_names(lan: Lan) -> None:
    with lan.advertising() as first, lan.advertising(machine=lan.neighbour) as second:
        wait_until_advertised(first)
        wait_until_advertised(second)
        assert len(lan.found_once({"dermstation", "dermstation-2"})) == 2


@pytest.mark.network
@pytest.mark.parametrize("who", ["station", "neighbour", "both"])
def test_two_stations_that_found_the_same_name_free_end_with_two_names(lan: Lan, who: str) -> None:
    blind = {who} if who != "both" else {"station", "neighbour"}
    with contextlib.ExitStack() as stack:
        for name, machine in (("station", lan.station), ("neighbour", lan.neighbour)):
            how = ("blind",) if name in blind else ()
            stack.enter_context(lan.advertising("dermstation", EVERYWHERE, machine, *how))
        found = lan.found_once({"dermstation", "dermstation-2"})
    assert {one.host: one.instance for one in found} == {
        "dermstation.local": "dermstation",
        "dermstation-2.local": "dermstation-2",
    }


@pytest.mark.network
def test_a_new_state_reaches_the_neighbour(lan: Lan) -> None:
    with lan.advertising() as process:
        wait_until_advertised(process)
        assert process.stdin is not None
        process.stdin.write("no-model\n")
        process.stdin.flush()
        deadline = time.monotonic() + 60
        while not any("state=no-model" in found.text for found in lan.avahi.browse(DERMSTATION)):
            assert time.monotonic() < deadline


@pytest.mark.network
def test_a_name_in_another_script_is_shown_as_written(lan: Lan) -> None:
    with lan.advertising("त्वचा: room 2") as process:
        wait_until_advertised(process)
        (found,) = lan.avahi.browse(DERMSTATION)
    assert (found.instance, found.host) == ("त्वचा: room 2", "room-2.local")


@pytest.mark.network
def test_an_address_that_comes_late_is_advertised(lan: Lan) -> None:
    def address(verb: str) -> None:
        lan.station.run("ip", "addr", verb, f"{lan.station.address}/24", "dev", lan.station.interface)

    address("del")
    try:
        with lan.avahi.watching(DERMSTATION) as watch, lan.advertising("late") as process:
            with pytest.raises(TimeoutError):
                watch.wait_for("late", timeout_s=1.5)
            address("add")
            wait_until_advertised(process)
            watch.wait_for("late")
    finally:
        with contextlib.suppress(RuntimeError):
            address("add")


@pytest.mark.network
def test_on_loopback_nothing_is_advertised(lan: Lan) -> None:
    with lan.avahi.watching(DERMSTATION) as watch:
        with lan.advertising("quiet", "127.0.0.1"), pytest.raises(TimeoutError):
            watch.wait_for("quiet", timeout_s=2)
        # The same watch does see one that is advertised.
        with lan.advertising("quiet"):
            watch.wait_for("quiet")


def test_loopback_starts_no_thread_and_update_state_is_harmless() -> None:
    with Advertisement("dermstation", "127.0.0.1", PORT, version="0.1.0", state="starting") as advertisement:
        advertisement.update_state("ready")
        assert not advertisement._thread.is_alive()


def test_a_state_outside_the_vocabulary_is_refused() -> None:
    state: Any = "Mrs Smith is waiting"
    with pytest.raises(ValueError, match="unknown station state"):
        Advertisement("dermstation", EVERYWHERE, PORT, version="0.1.0", state=state)


@pytest.mark.parametrize(
    ("host", "is_beyond"),
    [
        ("127.0.0.1", False),
        ("127.9.9.9", False),
        ("::1", False),
        ("localhost", False),
        (EVERYWHERE, True),
        ("::", True),
        ("10.0.0.4", True),
        ("fe80::1", True),
        ("no-such-host.invalid", True),
    ],
)
def test_whether_a_host_is_beyond_loopback(host: str, is_beyond: bool) -> None:
    assert is_beyond_loopback(host) is is_beyond


def test_addresses_of_a_listening_host() -> None:
    assert lan_addresses("127.0.0.1") == lan_addresses("::1") == ()
    assert lan_addresses("10.1.2.3") == ("10.1.2.3",)
    assert not any(address.startswith(("127.", "fe80:")) for address in lan_addresses(EVERYWHERE) + lan_addresses("::"))


@pytest.mark.parametrize("name", ["a\nb", "a\0", "\x7f", "a\u2028b", "a\u202eb"])
def test_a_control_character_in_the_name_is_refused_in_one_sentence(name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^The station's name .* holds a control character: .*\.$"):
        instance_names(name)


@pytest.mark.parametrize("name", ["", "   "])
def test_an_empty_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match="empty"):
        Advertisement(name, EVERYWHERE, PORT, version="0.1.0", state="ready")


@pytest.mark.parametrize("name", ["x" * 200, "x" + "é" * 100, "皮" * 40, "a" * 62 + " b"])
def test_every_candidate_fits_one_label_and_differs(name: str) -> None:
    candidates = list(itertools.islice(instance_names(name), 120))
    assert all(len(candidate.encode()) <= LABEL_MAX_BYTES for candidate in candidates)
    assert len(set(candidates)) == len(candidates)
    assert candidates[0].encode() == name.encode()[: len(candidates[0].encode())]


@pytest.mark.parametrize(
    ("instance", "host"),
    [
        ("dermstation-2", "dermstation-2.local."),
        ("Zürich Süd", "zurich-sud.local."),
        ("皮肤", "dermstation.local."),
        ("皮肤-2", "dermstation-2.local."),
        ("2nd floor", "dermstation-2nd-floor.local."),
        ("--a--", "a.local."),
        ("x" * 63, "x" * 63 + ".local."),
    ],
)
def test_host_names_are_letters_digits_and_hyphens(instance: str, host: str) -> None:
    assert host_name(instance) == host


def test_a_dot_does_not_end_the_label() -> None:
    assert next(instance_names("Dr. Who")) == "Dr- Who"
