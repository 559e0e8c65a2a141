"""Draw one page as the kiosk would: Chromium under the unit's system call filter and the managed policy.

    unshare --mount --net --propagation=private python -m rig.kiosk_page UNIT POLICY URL

Inside, 127.0.0.1:8080 and 127.0.0.1:8081 answer with "station" and "elsewhere". It prints the page's DOM, or
Chromium's reason for having none. The browser runs as nobody, without `--no-sandbox`: without a working sandbox of
its own it draws nothing.
"""

import functools
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from rig.seccomp import allowed_calls, restrict_to

_NOBODY = 65534
_PAGES = {8080: b"<p>station</p>", 8081: b"<p>elsewhere</p>"}
_DRAW_S = 120


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(_PAGES[self.server.server_address[1]])  # type: ignore[index]  # an IPv4 address has a port

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class names it so
        pass


def main() -> int:
    """Prepare the machine, draw the page, return Chromium's exit status."""
    unit, policy, url = sys.argv[1:]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/etc/chromium"], check=True)
    managed = Path("/etc/chromium/policies/managed")
    managed.mkdir(parents=True)
    shutil.copy(policy, managed)
    for port in _PAGES:
        server = ThreadingHTTPServer(("127.0.0.1", port), _Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as home:
        os.chown(home, _NOBODY, _NOBODY)
        return _draw(url, home, allowed_calls(Path(unit)))


def _draw(url: str, home: str, calls: frozenset[str]) -> int:
    command = ["chromium", "--headless=new", "--disable-gpu", f"--user-data-dir={home}/profile", "--dump-dom", url]
    # As after systemd's own order: the user first, then the filter.
    return subprocess.run(
        command,
        user=_NOBODY,
        group=_NOBODY,
        extra_groups=[],
        preexec_fn=functools.partial(restrict_to, calls),  # the servers' threads hold no lock that it takes
        env={"PATH": os.environ["PATH"], "HOME": home},
        cwd=home,
        stderr=subprocess.STDOUT,
        timeout=_DRAW_S,
        check=False,
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
