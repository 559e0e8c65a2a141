"""Printing by the box on a real CUPS: what comes out, what a broken printer says, and that no page is left behind."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cups_rig import Cups, missing, network_printer, running_cups
from kiosk_door import Door, Kiosk

from appliance.host import printing as host
from appliance.imaging.card_page import card_pdf
from appliance.service.errors import LimitError, NotFoundError
from appliance.service.printing import Printing
from appliance.service.recovery_sheets import sheets_pdf
from appliance.service.text_pages import text_pdf

WORDS = [["lusab", "babad", "gutih", "tugad", "lusab", "babad", "gutih", "tugad", "mubot"]]
needs_cups = pytest.mark.skipif(missing() != "", reason=missing())


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path, for a socket's name, into which CUPS' own user may look."""
    with tempfile.TemporaryDirectory(prefix="cups-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        monkeypatch.setenv("CUPS_SERVER", f"{name}/cups.sock")
        monkeypatch.setattr(host, "CUPS_CONFIGURATION", Path(name) / "etc" / "cupsd.conf")
        yield Path(name)


@pytest.fixture
def cups(folder: Path) -> Iterator[Cups]:
    with running_cups(folder) as found:
        yield found


def printed(printing: Printing, pdf: bytes, *, is_secret: bool = False) -> str:
    printing.start(pdf, "dermstation page", is_secret=is_secret)
    printing.wait(60)
    assert not printing.state.is_busy
    return printing.state.words


@needs_cups
def test_what_comes_out_is_what_was_drawn_and_the_queue_is_empty(cups: Cups) -> None:
    sheets = sheets_pdf(WORDS, "Kliniek", datetime(2026, 11, 22, tzinfo=UTC))
    with network_printer() as paper:
        cups.add("desk", f"socket://127.0.0.1:{paper.port}/?waiteof=false")
        printing = Printing()
        assert (printing.printer, printing.may_print_secrets) == ("desk", True)
        assert printed(printing, sheets, is_secret=True) == "Printed on desk."
        assert paper.pages == [sheets]
        assert cups.spooled() == []
        for pdf in (card_pdf(), text_pdf("a list\n" * 200, "list")):
            assert printed(printing, pdf) == "Printed on desk."
            assert paper.pages[-1] == pdf
    everything = b"".join(
        path.read_bytes() for path in cups.folder.rglob("*") if path.is_file() and "bin" not in path.parts
    )
    assert b"%PDF" not in everything
    assert b"lusab" not in everything


@needs_cups
def test_control_a_queue_that_keeps_files_is_found_out_and_gets_no_secret(folder: Path) -> None:
    with running_cups(folder, keeps_files=True) as cups, network_printer() as paper:
        cups.add("desk", f"socket://127.0.0.1:{paper.port}/?waiteof=false")
        printing = Printing()
        assert not printing.may_print_secrets
        with pytest.raises(NotFoundError, match="would keep a copy"):
            printing.start(b"%PDF secret", "page", is_secret=True)
        assert printed(printing, card_pdf()) == "Printed on desk."
        assert len(cups.spooled()) == 1
    (folder / "etc" / "cupsd.conf").write_text("# PreserveJobFiles No\n")
    assert not host.keeps_no_files()
    (folder / "etc" / "cupsd.conf").unlink()
    assert not host.keeps_no_files()


@needs_cups
@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("media-jam-error", "paper is jammed"),
        ("media-empty-warning", "no paper"),
        ("cover-open", "printer is open"),
        ("marker-supply-empty-error", "no ink"),
    ],
)
def test_printer_that_complains_is_told_and_nothing_waits_in_it(cups: Cups, reason: str, words: str) -> None:
    cups.add_jammed(reason)
    assert words in printed(Printing(trouble_s=0.6), b"%PDF jammed", is_secret=True)
    assert cups.spooled() == []
    assert subprocess.run(["lpstat", "-o"], capture_output=True, text=True).stdout == ""


@needs_cups
def test_printer_that_is_off_is_told_and_nothing_waits_for_it(cups: Cups) -> None:
    cups.add("desk", "socket://127.0.0.1:9/")
    assert "does not answer" in printed(Printing(trouble_s=1), b"%PDF nobody", is_secret=True)
    assert cups.spooled() == []


@needs_cups
def test_queue_that_was_stopped_is_told(cups: Cups) -> None:
    cups.add("desk", "socket://127.0.0.1:9/")
    subprocess.run(["cupsdisable", "desk"], check=True)
    assert "technician" in printed(Printing(trouble_s=0.6), b"%PDF stopped")
    assert cups.spooled() == []
    subprocess.run(["cupsreject", "desk"], check=True)
    assert "did not take the page" in printed(Printing(), b"%PDF rejected")


@needs_cups
def test_printer_that_takes_for_ever_is_left(cups: Cups) -> None:
    cups.add_jammed("other-report")
    printing = Printing(patience_s=2)
    printing.start(b"%PDF slow", "page")
    with pytest.raises(LimitError, match="Another page"):
        printing.start(b"%PDF second", "page")
    printing.wait(30)
    assert "in two minutes" in printing.state.words
    assert cups.spooled() == []


@needs_cups
def test_printer_is_cups_default_or_the_only_one(cups: Cups) -> None:
    assert Printing().printer is None
    cups.add("one", "socket://127.0.0.1:9/", is_default=False)
    assert Printing().printer == "one"
    cups.add("two", "socket://127.0.0.1:9/", is_default=False)
    assert Printing().printer is None
    cups.add("three", "socket://127.0.0.1:9/")
    assert Printing().printer == "three"


def test_without_cups_nothing_is_offered(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Printing().printer is None
    with pytest.raises(NotFoundError, match="No printer is set up"):
        Printing().start(b"%PDF", "page")


def test_cups_that_hangs_or_dies_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Commands of the test's own: the queue takes the page, then nothing answers any more."""
    for name, script in {
        "lpstat": 'case "$1" in -d) echo "system default destination: desk";; *) exit 1;; esac',
        "lp": 'cat > /dev/null; echo "request id is desk-7 (0 file(s))"',
        "lpoptions": "exit 1",
        "cancel": "exit 1",
    }.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert "The technician must empty it now" in printed(Printing(), b"%PDF")


def _until_printed(kiosk: Kiosk) -> None:
    while (found := kiosk.get("/api/print").get_json())["is_busy"]:
        time.sleep(0.1)
    assert found["words"] == "Printed on desk."


@needs_cups
def test_screens_offer_and_print_what_they_show(cups: Cups, tmp_path: Path) -> None:
    door = Door(tmp_path)
    door.lead_signs_in()
    kiosk = door.kiosk
    assert "data-prints" not in kiosk.get("/upkeep/inventory").text
    answer = kiosk.post("/api/print/inventory")
    assert (answer.status_code, "No printer" in answer.text) == (404, True)
    with network_printer() as paper:
        cups.add("desk", f"socket://127.0.0.1:{paper.port}/?waiteof=false")
        assert 'data-prints="/api/print/inventory"' in kiosk.get("/upkeep/inventory").text
        assert 'data-prints="/api/print/card"' in kiosk.get("/upkeep").text
        assert kiosk.post("/api/secrets/sheets/print").status_code == 404  # no sheets were made
        kiosk.post("/api/secrets/sheets", phrase=door.box.made.phrase)
        assert 'data-prints="/api/secrets/sheets/print"' in kiosk.get("/secrets/sheets").text
        for path in ("/api/print/inventory", "/api/print/card", "/api/secrets/sheets/print"):
            assert kiosk.post(path).get_json()["is_busy"]
            _until_printed(kiosk)
        assert [page[:5] for page in paper.pages] == [b"%PDF-"] * 3
    assert cups.spooled() == []
    door.nurse_signs_in()
    for path in ("/api/print/inventory", "/api/print/card", "/api/secrets/sheets/print"):
        assert kiosk.post(path).status_code == 403
    door.box.store.close()
