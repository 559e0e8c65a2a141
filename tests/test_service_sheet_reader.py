"""A recovery sheet before the camera: read small, turned and blurred, compared as typed ones are, and not kept."""

import io
import random
import shutil
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import segno
from kiosk_door import Door
from PIL import Image, ImageFilter
from records_boxes import LEAD_PIN

from appliance.errors import ImageError
from appliance.imaging.codes import TEXT_MAX_LETTERS
from appliance.imaging.sandbox import Sandbox
from appliance.records import audit
from appliance.records.errors import ThrottledError, WrongSecretError
from appliance.records.setup import prepare
from appliance.records.words import sheet_from_key
from appliance.service.recovery_sheets import sheets_pdf
from appliance.service.sheet_reader import SheetReader
from appliance.service.unlocking import Unlocking
from appliance.types import Frame

pytest.importorskip("zxingcpp", reason="needs zxing-cpp of the extra [records]")
SCENE_PX = (1280, 720)


def code_picture(text: str, side_px: int = 260) -> Image.Image:
    buffer = io.BytesIO()
    segno.make(text, error="m", micro=False).save(buffer, kind="png", scale=8)
    return Image.open(buffer).convert("RGB").resize((side_px, side_px))


def scene(*codes: Image.Image, blur_px: float = 0.0, turn: float = 0.0) -> bytes:
    """A frame as a camera sends it, with codes on it."""
    found = Image.new("RGB", SCENE_PX, (196, 184, 170))
    for number, code in enumerate(codes):
        turned = code.rotate(turn, expand=True, fillcolor=(240, 240, 240))
        found.paste(turned, (80 + 560 * number, 120))
    buffer = io.BytesIO()
    found.filter(ImageFilter.GaussianBlur(blur_px)).save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


class Sheets:
    """A locked box with its lead signed in, and a camera that shows what a test holds before it."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self.shown: bytes | None = None
        clinic = door.kiosk.clinic
        clinic.sign_in(door.lead_id, LEAD_PIN)
        door.box.store.lock()
        self.reader = SheetReader(Unlocking(clinic), self._frame)

    def _frame(self) -> Frame | None:
        if self.shown is None:
            return None
        return Frame(content=self.shown, media_type="image/jpeg", sequence=1, captured_s=0.0)

    @property
    def is_open(self) -> bool:
        return self.door.box.store.is_unlocked


@pytest.fixture
def sheets(tmp_path: Path) -> Iterator[Sheets]:
    door = Door(tmp_path)
    yield Sheets(door)
    door.box.store.close()


def test_sheet_before_the_camera_opens_the_records_and_the_frame_is_kept_nowhere(sheets: Sheets) -> None:
    assert sheets.reader.look() is False
    sheets.shown = scene()
    assert sheets.reader.look() is False
    words = sheets.door.box.made.sheets[1]
    sheets.shown = scene(code_picture(words), turn=12)
    assert sheets.reader.look() is True
    assert sheets.is_open
    *_, entry = audit.entries(sheets.door.box.store.saver.connection)
    assert (entry.action, entry.detail) == ("unlocked", "recovery")
    for path in sheets.door.box.folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert sheets.shown[100:400] not in content
        assert words.encode() not in content


def test_sheet_of_another_box_is_a_guess_and_another_code_is_none(sheets: Sheets) -> None:
    sheets.shown = scene(code_picture("https://example.org/advertisement"))
    for _ in range(3):
        with pytest.raises(WrongSecretError, match="no recovery sheet"):
            sheets.reader.look()
    sheets.shown = scene(code_picture(prepare().sheets[0]))
    with pytest.raises(WrongSecretError, match="no sheet of this box"):
        sheets.reader.look()
    sheets.shown = scene(code_picture(sheets.door.box.made.sheets[0]))
    with pytest.raises(ThrottledError):
        sheets.reader.look()
    sheets.door.box.clock.passed_s += 2
    assert sheets.reader.look() is True


def test_broken_frame_is_a_sentence(sheets: Sheets) -> None:
    sheets.shown = b"\xff\xd8\xff nothing"
    with pytest.raises(ImageError):
        sheets.reader.look()
    assert not sheets.is_open


def test_codes_are_read_small_turned_and_blurred_and_nothing_is_read_wrongly(seed: int) -> None:
    drawn, read = random.Random(seed), 0
    with Sandbox() as sandbox:
        for _ in range(30):
            words = sheet_from_key(drawn.randbytes(16))
            picture = code_picture(words, drawn.randint(180, 420))
            found = sandbox.code(scene(picture, blur_px=drawn.uniform(0, 1.5), turn=drawn.uniform(-45, 45)))
            assert found in {words, None}
            read += found == words
        assert sandbox.is_filtered
    assert read >= 27, read


def test_two_codes_and_long_or_strange_ones_are_no_sheet() -> None:
    one, other = (code_picture(sheet_from_key(bytes([number] * 16))) for number in (1, 2))
    with Sandbox() as sandbox:
        assert sandbox.code(scene(one, other)) is None
        assert sandbox.code(scene(one, one)) == sheet_from_key(bytes([1] * 16))
        assert sandbox.code(scene(code_picture("x" * (TEXT_MAX_LETTERS + 1), 420))) is None
        assert sandbox.code(scene(code_picture("line\nbreak"))) is None


@pytest.mark.skipif(shutil.which("pdftoppm") is None, reason="needs Debian's poppler-utils")
def test_code_of_the_printed_sheet_is_read_off_a_photo_of_the_whole_page(tmp_path: Path) -> None:
    pytest.importorskip("fpdf", reason="needs the extra [print]")
    words = prepare().sheets[0]
    (tmp_path / "sheet.pdf").write_bytes(sheets_pdf([words.split("-")], "Kliniek", datetime(2026, 11, 22, tzinfo=UTC)))
    # 90 dots an inch: the whole page in a camera's picture of 1080 lines, and the code 170 of them.
    command = ["pdftoppm", "-r", "90", "-png", "-singlefile", str(tmp_path / "sheet.pdf"), str(tmp_path / "page")]
    subprocess.run(command, check=True)
    page = Image.open(tmp_path / "page.png").convert("RGB").rotate(4, expand=True, fillcolor=(120, 110, 100))
    buffer = io.BytesIO()
    page.filter(ImageFilter.GaussianBlur(0.7)).save(buffer, "JPEG", quality=80)
    with Sandbox() as sandbox:
        assert sandbox.code(buffer.getvalue()) == words
