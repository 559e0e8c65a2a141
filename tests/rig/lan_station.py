"""A station with its kiosk on loopback and its face on the network, for floods: until its input ends.

python lan_station.py FOLDER apart|shared [PHONES]. It prints one line of JSON: ports, kiosk's cookie, the authority,
and the cookies of paired phones, one if not more, with a visit. `shared` is the negative control: one server, with one
set of workers, for both.
"""

import json
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

from kiosk_station import ObedientCamera, replay_camera
from lan_box import LanBox, Phone, lan_box
from records_boxes import visit

from web.kiosk.access import COOKIE
from web.kiosk.app import LOOPBACK_HOSTS, MAX_BODY_BYTES, create_kiosk_app
from web.lan.limits import Limits
from web.listening import tcp_listener
from web.serve import THREADS
from web.server import HttpServer

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the namespace's
PAIRED_FROM = "127.0.0.1"


def main() -> None:
    folder, mode = Path(sys.argv[1]), sys.argv[2]
    with ExitStack() as stack:
        lan = stack.enter_context(lan_box(folder, host=EVERYWHERE, limits=Limits()))
        assert isinstance(lan.station.camera, ObedientCamera)
        lan.station.camera = replay_camera(folder / "pictures")
        stack.enter_context(lan.station)
        seen = visit(lan.box, "flooded", size=2_000_000)
        kiosk = serve_kiosk(stack, lan, EVERYWHERE if mode == "shared" else "127.0.0.1")
        phones = [cookies_of(lan.signed_in()) for _ in range(int(sys.argv[3]) if len(sys.argv) > 3 else 1)]
        facts = {
            "kiosk": kiosk,
            "cookie": f"{COOKIE}={lan.clinic.begin(lan.box.lead)}",
            "lan": kiosk if mode == "shared" else lan.face.port,
            "authority": authority_of(lan),
            "phone": phones[0],
            "phones": phones,
            "visit": f"/visits/{seen.encounter_id}",
            "photo": f"/visits/{seen.encounter_id}/photos/{seen.capture_id}",
            "front": lan.face.front.pid if lan.face.front is not None else None,
        }
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()
        sys.stdin.read()


def serve_kiosk(stack: ExitStack, lan: LanBox, host: str) -> int:
    app = create_kiosk_app(lan.station, clinic=lan.clinic, allowed_hosts=LOOPBACK_HOSTS | {"dermstation.local"})
    listener = tcp_listener(host, 0)
    server = HttpServer(app, listener, threads=THREADS, max_body_bytes=MAX_BODY_BYTES)
    thread = threading.Thread(target=server.run, name="kiosk-server", daemon=True)
    thread.start()
    stack.callback(server.close)
    stack.callback(thread.join, 5)
    stack.callback(server.stop)
    return int(listener.getsockname()[1])


def authority_of(lan: LanBox) -> str:
    made = lan.face._certificates
    assert made is not None
    return made.authority_der.hex()


def cookies_of(phone: Phone) -> str:
    return "; ".join(f"{name}={value}" for name, value in phone.cookies.items())


if __name__ == "__main__":
    main()
