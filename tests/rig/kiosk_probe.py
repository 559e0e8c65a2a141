"""A kiosk's browser, as far as the box's answers go: asks what screens ask, and says how long each answer took.

python kiosk_probe.py PORT COOKIE SECONDS. It prints one line of JSON: seconds of each answer and the statuses.
"""

import collections
import http.client
import json
import sys
import time

_PATHS = ("/", "/api/state", "/preview?after=-1", "/static/kiosk/base.css", "/more")
_LONGEST_S = 5.0
_REST_S = 0.02
FAILED = "failed"


def ask(client: http.client.HTTPConnection, path: str, cookie: str) -> str:
    client.request("GET", path, headers={"Cookie": cookie, "Sec-Fetch-Site": "same-origin"})
    response = client.getresponse()
    response.read()
    return str(response.status)


def main() -> None:
    port, cookie, seconds = int(sys.argv[1]), sys.argv[2], float(sys.argv[3])
    statuses: collections.Counter[str] = collections.Counter()
    took_s: list[float] = []
    ends_s = time.monotonic() + seconds
    number = 0
    while time.monotonic() < ends_s:
        client = http.client.HTTPConnection("127.0.0.1", port, timeout=_LONGEST_S)
        # A browser keeps a connection for a while and then opens another.
        for _ in range(10):
            started_s = time.monotonic()
            try:
                statuses[ask(client, _PATHS[number % len(_PATHS)], cookie)] += 1
            except (OSError, http.client.HTTPException):
                statuses[FAILED] += 1
                took_s.append(max(_LONGEST_S, time.monotonic() - started_s))
                break
            took_s.append(time.monotonic() - started_s)
            number += 1
            time.sleep(_REST_S)
        client.close()
    sys.stdout.write(json.dumps({"took_s": took_s, "statuses": statuses}) + "\n")


if __name__ == "__main__":
    main()
