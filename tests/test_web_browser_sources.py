"""What the pages and scripts of kiosk and LAN may not contain, read from their sources; no browser needed."""

import re
from pathlib import Path

import pytest

WEB = Path(__file__).parents[1] / "web"
TEMPLATES = sorted((WEB / "templates").rglob("*.html"))
SCRIPTS = sorted((WEB / "static").rglob("*.js"))
SHEETS = sorted((WEB / "static").rglob("*.css"))
MARKUP_FROM_TEXT = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser")
INLINE = re.compile(r"<style|\sstyle=|\son[a-z]+=|javascript:|<script(?![^>]*\ssrc=)")
ELSEWHERE = re.compile(r"(https?:)?//(?!\s)[\w.-]+\.[a-z]")


def names(paths: list[Path]) -> list[str]:
    return [str(path.relative_to(WEB)) for path in paths]


def test_there_is_something_to_read() -> None:
    assert len(TEMPLATES) >= 50
    assert len(SCRIPTS) >= 40
    assert len(SHEETS) >= 10


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_script_never_makes_markup_from_text(path: Path) -> None:
    assert MARKUP_FROM_TEXT.findall(path.read_text()) == []


@pytest.mark.parametrize("path", TEMPLATES, ids=names(TEMPLATES))
def test_template_has_nothing_inline(path: Path) -> None:
    assert [match[0] for match in INLINE.finditer(path.read_text())] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=names(TEMPLATES))
def test_page_is_seen_only_once_its_scripts_listen(path: Path) -> None:
    modules = re.findall(r'<script type="module"[^>]*>', path.read_text())
    assert [tag for tag in modules if 'blocking="render"' not in tag] == []


@pytest.mark.parametrize("path", TEMPLATES, ids=names(TEMPLATES))
def test_template_switches_escaping_off_for_our_own_icons_only(path: Path) -> None:
    assert path.name == "icons.html" or not re.search(r"\|\s*safe|autoescape", path.read_text())


@pytest.mark.parametrize("path", [*TEMPLATES, *SCRIPTS, *SHEETS], ids=names([*TEMPLATES, *SCRIPTS, *SHEETS]))
def test_source_names_no_other_host(path: Path) -> None:
    assert ELSEWHERE.search(path.read_text()) is None


def test_fonts_come_with_their_licence() -> None:
    fonts = WEB / "static" / "kiosk" / "fonts"
    assert "SIL OPEN FONT LICENSE" in (fonts / "OFL.txt").read_text()
    for font in fonts.glob("*.woff2"):
        assert font.read_bytes()[:4] == b"wOF2"


@pytest.mark.parametrize("path", SCRIPTS, ids=names(SCRIPTS))
def test_imported_modules_are_there(path: Path) -> None:
    for imported in re.findall(r'(?:from|import) "\./([\w.]+)"', path.read_text()):
        assert (path.parent / imported).is_file(), imported
