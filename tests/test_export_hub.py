"""A hub, played on loopback: what it refuses becomes one sentence, what it serves is found under its commit."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from checkpoints import make_checkpoint

from export.errors import DownloadError
from export.hub import locate_checkpoint

REVISION = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves one folder as `owner/open`; `owner/gated` wants a licence accepted, the rest is unknown."""

    folder: Path

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        if "owner/gated" in self.path:
            self._send(403, b"{}", {"X-Error-Code": "GatedRepo", "X-Error-Message": "Access is restricted."}, body=body)
        elif "owner/open" not in self.path:
            self._send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, body=body)
        elif "/tree/" in self.path:
            tree = [
                {"type": "file", "path": path.name, "size": path.stat().st_size, "oid": "0" * 40}
                for path in sorted(self.folder.iterdir())
            ]
            self._send(200, json.dumps(tree).encode(), {"Content-Type": "application/json"}, body=body)
        elif self.path.startswith("/api/"):
            files = [{"rfilename": path.name} for path in sorted(self.folder.iterdir())]
            content = json.dumps({"id": "owner/open", "sha": REVISION, "siblings": files}).encode()
            self._send(200, content, {"Content-Type": "application/json"}, body=body)
        else:
            content = (self.folder / self.path.rpartition("/")[2]).read_bytes()
            self._send(200, content, {"X-Repo-Commit": REVISION, "ETag": f'"{len(content)}"'}, body=body)

    def _send(self, status: int, content: bytes, headers: dict[str, str], *, body: bool) -> None:
        self.send_response(status)
        for key, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(key, value)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Point the hub client at a server that serves the returned folder."""
    from huggingface_hub import constants

    folder = make_checkpoint(tmp_path / "served")
    (folder / "weights.bin").write_bytes(b"not wanted")
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Served", (Hub,), {"folder": folder}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", address + "/{repo_id}/resolve/{revision}/{filename}")
    yield folder
    server.shutdown()
    server.server_close()
    thread.join(timeout=5)


def test_gated_checkpoint_says_where_to_accept_the_licence(hub: Path) -> None:
    with pytest.raises(DownloadError, match=r"owner/gated is gated: accept its licence at .*/owner/gated and"):
        locate_checkpoint("owner/gated")


def test_unknown_checkpoint_is_one_sentence(hub: Path) -> None:
    with pytest.raises(DownloadError, match="does not know owner/nothing"):
        locate_checkpoint("owner/nothing")


def test_open_checkpoint_is_fetched_without_what_is_not_needed(hub: Path) -> None:
    found = locate_checkpoint("owner/open")

    assert (found.name, found.revision) == ("owner/open", REVISION)
    assert {path.name for path in found.path.iterdir()} == {path.name for path in hub.iterdir()} - {"weights.bin"}
    assert (found.path / "config.json").read_bytes() == (hub / "config.json").read_bytes()
