"""A front whose HTTP parser has a hole: the body of `POST /hole` is run as Python in it, and its `answer` sent back.

python front_with_hole.py STATION shut|free [USER]. All else is the real front. `free` is the control: it does not
shut itself in. With USER, a number, it runs as that user and group, as its unit has it.
"""

import contextlib
import io
import mmap  # noqa: F401 - an attacker would bring their own
import os
import sys
from http import HTTPStatus

from web.lan import front, front_main, http

_read_request = http.read_request


async def _read_request_with_hole(*arguments: object, **options: object) -> http.Request | None:
    request = await _read_request(*arguments, **options)  # type: ignore[arg-type]  # as they came
    if request is not None and request.target == b"/hole":
        found: dict[str, object] = {}
        with contextlib.redirect_stdout(io.StringIO()):
            exec(request.body, found)  # noqa: S102 - it is the hole
        raise http.RefusedError(HTTPStatus.IM_A_TEAPOT, str(found["answer"]))
    return request


def main() -> None:
    station, mode, *user = sys.argv[1:]
    front.read_request = _read_request_with_hole  # type: ignore[attr-defined]  # the name that it uses
    if mode == "free":
        front_main.confine_server = lambda **_: True  # type: ignore[attr-defined]  # the name that it uses
    if user:
        number = int(user[0])
        os.setgroups([])
        os.setresgid(number, number, number)
        os.setresuid(number, number, number)
    front_main.main([station])


if __name__ == "__main__":
    main()
