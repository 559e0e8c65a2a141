"""The box on the clinic's network: certificate, front, and the station's own server for what the front passes on.

The kiosk shares nothing with it but the station: other listener, other process for TLS, other threads. What fails here
is a sentence on the screen of phones and is tried again; capture never waits for it.
"""

import logging
import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from itertools import islice
from pathlib import Path
from typing import Final, Self

from appliance.config import Config
from appliance.errors import DermstationError
from appliance.host.addresses import lan_addresses
from appliance.host.certificate_files import CertificateFiles, Certificates
from appliance.host.certificates import key_pem, private_addresses
from appliance.host.names import NAMES_TRIED, host_name, instance_names
from appliance.records import devices
from appliance.records.dating import RELEASED_AT
from appliance.records.errors import MissingError
from appliance.records.users import User
from appliance.records.words import words_from_bytes
from appliance.service.clinic import Clinic
from appliance.service.lan_sessions import LanSessions
from appliance.service.pairing import Pairing
from appliance.service.station import Station
from web.hosts import authority
from web.lan.app import MAX_BODY_BYTES, LanParts, create_lan_app
from web.lan.control import Settings
from web.lan.front_process import FrontProcess
from web.lan.limits import Limits
from web.lan.passing import passed_connections
from web.listening import tcp_listener
from web.server import HttpServer

logger = logging.getLogger(__name__)
THREADS: Final = 4
"""Half of what the front passes on at once: the rest waits for a moment, in that process."""
_LOOK_AGAIN_S: Final = 10.0
"""How often addresses, name and date are compared with the certificate."""
_FINGERPRINT_WORD_BYTES: Final = 12
_NO_FRONT: Final = "Phones cannot come in at this moment: what answers them is being started."


@dataclass(frozen=True, slots=True, kw_only=True)
class LanState:
    """What the screen of phones says about the network."""

    problem: str
    """One sentence when phones cannot come in; else empty."""
    notice: str
    """One sentence when they must do something anew; else empty."""
    by_name: str = ""
    """Where they come in, such as "dermstation.local:8443"."""
    by_address: str = ""
    """The same for those that do not find names; empty without an address."""
    fingerprint: str = ""
    """SHA-256 of the authority in hexadecimal pairs, as phones show it."""
    words: str = ""
    """Its beginning as six words, to say aloud."""
    ends_at: datetime | None = None


class LanFace:
    """Serves the clinic's network while entered; every method may be called from any thread."""

    def __init__(
        self, config: Config, station: Station, clinic: Clinic | None, *, limits: Limits | None = None
    ) -> None:
        self._config = config
        self._limits = limits or Limits()
        self._clinic = clinic
        self._names = lan_names(config.station.name)
        self._files = CertificateFiles(Path(config.lan.folder), released_at=RELEASED_AT)
        self.pairing = Pairing(clinic.clock) if clinic is not None else None
        self.sessions = LanSessions(clinic, config.records.idle_lock_s) if clinic is not None else None
        self.claimed_name: Callable[[], str | None] = lambda: None
        """Tells the host name that the network gave this box; the wished one until then."""
        self._app = create_lan_app(
            LanParts(station=station, clinic=clinic, sessions=self.sessions, pairing=self.pairing), self._hosts
        )
        self._lock = threading.Lock()
        self._looking = threading.Lock()
        self._certificates: Certificates | None = None
        self._addresses: tuple[str, ...] = ()
        self._problem = "The network is being started."
        self._notice = ""
        self._listener: socket.socket | None = None
        self._front: FrontProcess | None = None
        self._stack = ExitStack()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="lan-watch", daemon=True)

    def __enter__(self) -> Self:
        """Take the port if it is free, and start the rest; nobody waits for it."""
        self._listen()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End everything."""
        self._done.set()
        self._thread.join(5)
        self._stack.close()

    @property
    def port(self) -> int:
        """The port phones come to; the one of the settings until it could be taken."""
        with self._lock:
            return self._config.lan.port if self._listener is None else int(self._listener.getsockname()[1])

    @property
    def front(self) -> FrontProcess | None:
        """The process in front, once it was started."""
        return self._front

    def state(self) -> LanState:
        """Tell how it stands."""
        port, name = self.port, (self.claimed_name() or self._names[0]).rstrip(".")
        with self._lock:
            made = self._certificates
            problem = self._problem or ("" if self._front is not None and self._front.is_ready else _NO_FRONT)
            if made is None or problem:
                return LanState(problem=problem, notice=self._notice)
            digest = made.authority.fingerprint
            private = private_addresses(self._addresses)
            return LanState(
                problem="",
                notice=self._notice,
                by_name=authority(name, port),
                by_address=authority(str(private[0]), port) if private else "",
                fingerprint=digest.hex(":").upper(),
                words=words_from_bytes(digest[:_FINGERPRINT_WORD_BYTES]),
                ends_at=made.ends_at,
            )

    def revoke(self, device_id: str, lead: User) -> None:
        """Let a device in no more, and end what it has open.

        Raises:
            MissingError: There are no records.
            ForbiddenError: Only a lead may.
            NotSavedError: It is still let in.
        """
        if self._clinic is None or self._clinic.store is None or self.sessions is None:
            raise MissingError("The records of this box are not open.")
        devices.revoke(self._clinic.store, device_id, lead)
        self.sessions.forget(device_id)
        if self._front is not None:
            self._front.cut(device_id)

    def look(self) -> None:
        """Compare the certificate with the box's names, addresses and date; start what is not running."""
        with self._looking:
            self._look()

    def _look(self) -> None:
        try:
            self._listen()
            addresses = lan_addresses(self._config.lan.host)
            made = self._files.ensure(self._names, addresses, self._believed_date())
        except DermstationError as error:
            with self._lock:
                self._problem = str(error)
            logger.warning("lan not served: %s", error)
            return
        with self._lock:
            is_other = self._certificates is None or made.chain_pem != self._certificates.chain_pem
            self._certificates, self._addresses = made, addresses
            self._notice = made.notice or self._notice
            self._problem = "" if self._listener is not None else self._problem
        if self._listener is None:
            return
        if self._front is None:
            self._serve(made)
        elif is_other:
            self._front.update(self._settings(made))

    def _watch(self) -> None:
        while True:
            try:
                self.look()
            except Exception:  # the thread's edge: the kiosk goes on, and it is tried again
                logger.exception("lan failed")
            if self._done.wait(_LOOK_AGAIN_S):
                return

    def _listen(self) -> None:
        with self._lock:
            if self._listener is not None:
                return
            try:
                self._listener = self._stack.enter_context(tcp_listener(self._config.lan.host, self._config.lan.port))
            except OSError as error:
                place = authority(self._config.lan.host, self._config.lan.port)
                self._problem = f"Phones cannot come in, for {place} cannot be used: {error.strerror or error}."

    def _serve(self, made: Certificates) -> None:
        passed, upstream = passed_connections()
        self._stack.enter_context(upstream)
        server = HttpServer(self._app, passed, threads=THREADS, max_body_bytes=MAX_BODY_BYTES, is_behind_tls=True)
        thread = threading.Thread(target=server.run, name="lan-server", daemon=True)
        thread.start()
        self._stack.callback(server.close)
        self._stack.callback(thread.join, 5)
        self._stack.callback(server.stop)
        if self._listener is not None:
            meeting = Path(self._config.lan.front) if self._config.lan.front else None
            front = FrontProcess([self._listener], upstream, self._settings(made), meeting)
            self._front = self._stack.enter_context(front)

    def _settings(self, made: Certificates) -> Settings:
        return Settings(
            chain_pem=made.chain_pem.decode(),
            key_pem=key_pem(made.leaf.key).decode(),
            authority_der=made.authority_der,
            limits=self._limits,
            guide_html=files("web").joinpath("templates", "lan", "guide.html").read_text(),
        )

    def _believed_date(self) -> datetime | None:
        if self._clinic is None or self._clinic.store is None:
            return None
        moment = self._clinic.store.now()
        return moment.at if moment.is_confirmed else None

    def _hosts(self) -> frozenset[str]:
        return frozenset(self._names) | frozenset(self._addresses)


def lan_names(name: str) -> tuple[str, ...]:
    """Return the host names that a box of this instance name may go by, lower case, the wished one first."""
    names = (host_name(instance).rstrip(".").lower() for instance in islice(instance_names(name), NAMES_TRIED))
    return tuple(dict.fromkeys(names))
