"""Let the LAN find the station: DNS-SD services over mDNS while it listens beyond loopback, withdrawn on stop.

It says a name, a port, a version and a state: never a clinic's or a subject's data. It never delays or fails the
station: a thread does the work, and what goes wrong is logged and tried again.
Source: RFC 6762 (mDNS), RFC 6763 (DNS-SD).
"""

import asyncio
import contextlib
import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Literal, Self, get_args

import zeroconf
from zeroconf import AddressResolver, Zeroconf  # type: ignore[attr-defined]  # public, missing from its __all__
from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

from appliance.host.addresses import is_beyond_loopback, lan_addresses, own_addresses
from appliance.host.names import NAMES_TRIED, host_name, instance_names
from appliance.host.rivals import Rivals

__all__ = ["SERVICE_TYPES", "Advertisement", "StationState", "is_beyond_loopback"]

logger = logging.getLogger(__name__)

SERVICE_TYPES: Final = ("_dermstation._tcp.local.", "_https._tcp.local.")
StationState = Literal["starting", "ready", "no-model"]
"""All that the LAN learns of how the station is doing; `no-model`: photos and referrals work, answers do not."""

_TXT_VERSION: Final = "1"
_HOST_PROBE_MS: Final = 750
"""As long as a responder may take (RFC 6762, section 8.1: three probes 250 ms apart)."""
_RESCAN_S: Final = 5.0
"""How often the machine's addresses are read again: a DHCP lease can come after the station's start."""
_STOP_S: Final = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """What was found free and is announced."""

    instance: str
    server: str
    addresses: tuple[str, ...]


class Advertisement:
    """Advertises the station while entered; does nothing where `host` is loopback.

    `name` is the wished instance name; where the LAN has it already, the station goes by `name-2` and so on, and both
    services and the host name always carry the same suffix. `host` and `port` are what the server listens on.

    Raises:
        ConfigurationError: The name is empty or holds a control character.
    """

    def __init__(self, name: str, host: str, port: int, *, version: str, state: StationState) -> None:
        instance_names(name)
        self._name, self._host, self._port, self._version = name, host, port, version
        self._state = _checked(state)
        self._claimed: str | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._thread = threading.Thread(target=self._work, name="advertisement", daemon=True)

    def __enter__(self) -> Self:
        """Start advertising and return at once."""
        if is_beyond_loopback(self._host):
            self._loop = asyncio.new_event_loop()
            self._task = self._loop.create_task(self._run())
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Withdraw: the LAN hears a goodbye (RFC 6762, section 10.1) before this returns."""
        if self._loop is None or self._task is None:
            return
        self._call(self._task.cancel)
        self._thread.join(_STOP_S)
        if self._thread.is_alive():
            logger.warning("advertisement did not stop: waited_s=%s", _STOP_S)

    @property
    def host_name(self) -> str | None:
        """The host name that the network gave the station, such as "dermstation-2.local."; None until it has one."""
        return self._claimed

    def update_state(self, state: StationState) -> None:
        """Tell the LAN another state; from any thread."""
        self._state = _checked(state)
        self._call(self._changed.set)

    def _call(self, function: Callable[[], object]) -> None:
        """Run a function on the loop's thread, unless that has ended already."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):
                self._loop.call_soon_threadsafe(function)

    def _work(self) -> None:
        if self._loop is None or self._task is None:
            return
        try:
            self._loop.run_until_complete(self._task)
        except asyncio.CancelledError:
            pass
        except Exception:  # the thread's edge: the station goes on unadvertised
            logger.exception("advertisement ended: name=%s", self._name)
        finally:
            self._loop.close()

    async def _run(self) -> None:
        while True:
            if addresses := lan_addresses(self._host):
                try:
                    while await self._advertise(addresses):
                        logger.info("name is left to another station: host=%s", self._claimed)
                except (OSError, RuntimeError, TimeoutError, zeroconf.Error) as error:
                    logger.warning("advertisement failed: error=%s retry_s=%s", error, _RESCAN_S)
            await asyncio.sleep(_RESCAN_S)

    async def _advertise(self, addresses: tuple[str, ...]) -> bool:
        """Claim a free name and hold it until the addresses change; leaving sends the goodbyes.

        Returns:
            Whether the name was left to another station, so that another one must be claimed.
        """
        async with AsyncZeroconf(interfaces=list(addresses)) as responder:
            claim = await self._claim(responder.zeroconf, addresses)
            rivals = Rivals(claim.server, self._changed)
            responder.zeroconf.async_add_listener(rivals, None)
            services = self._services(claim)
            # Found free a moment ago, both together: probing one after the other could end with two names.
            announced = [await responder.async_register_service(one, cooperating_responders=True) for one in services]
            await asyncio.gather(*announced)
            if rivals.wins_over(addresses):
                # Without goodbyes: they would take the other station's records, which are the same, from every cache.
                responder.zeroconf.registry.async_remove(list(services))
                return True
            logger.info(
                "advertised: instance=%s host=%s port=%d addresses=%s",
                claim.instance,
                claim.server,
                self._port,
                ",".join(addresses),
            )
            self._claimed = claim.server
            while lan_addresses(self._host) == addresses:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), _RESCAN_S)
                    self._changed.clear()
                    if rivals.wins_over(addresses):
                        responder.zeroconf.registry.async_remove(list(services))
                        return True
                    # Also for a rival that yields: these push its addresses out of the caches.
                    services = self._services(claim)
                    for service in services:
                        await responder.async_update_service(service)
            return False

    async def _claim(self, responder: Zeroconf, addresses: tuple[str, ...]) -> _Claim:
        for instance in itertools.islice(instance_names(self._name), NAMES_TRIED):
            claim = _Claim(instance=instance, server=host_name(instance), addresses=addresses)
            if await _is_free(responder, claim, self._services(claim)):
                return claim
            logger.info("name is taken on this network: instance=%s", instance)
        raise zeroconf.NonUniqueNameException

    def _services(self, claim: _Claim) -> list[AsyncServiceInfo]:
        text = {"txtvers": _TXT_VERSION, "version": self._version, "state": self._state, "path": "/"}
        return [
            AsyncServiceInfo(
                service_type,
                f"{claim.instance}.{service_type}",
                port=self._port,
                properties=text,
                server=claim.server,
                parsed_addresses=list(claim.addresses),
            )
            for service_type in SERVICE_TYPES
        ]


async def _is_free(responder: Zeroconf, claim: _Claim, services: list[AsyncServiceInfo]) -> bool:
    """Probe for both services and the host name at once; nobody else on the LAN may have any of them."""
    resolver = AddressResolver(claim.server)
    results = await asyncio.gather(
        resolver.async_request(responder, _HOST_PROBE_MS),
        *(responder.async_check_service(service, allow_name_change=False) for service in services),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, zeroconf.NonUniqueNameException):
            return False
        if isinstance(result, BaseException):
            raise result
    # This machine's own Avahi may answer for the same host name: the same addresses are no conflict.
    if not set(resolver.parsed_addresses()) <= own_addresses():
        return False
    return not any(_is_pointer_to(responder, service) for service in services)


def _is_pointer_to(responder: Zeroconf, service: AsyncServiceInfo) -> bool:
    """Look for the instance in any case of letters: zeroconf's own check sees only the same case."""
    return any(
        str(getattr(record, "alias", "")).lower() == service.name.lower()
        for record in responder.cache.entries_with_name(service.type)
    )


def _checked(state: StationState) -> StationState:
    if state not in get_args(StationState):
        raise ValueError(f"unknown station state {state!r}")
    return state
