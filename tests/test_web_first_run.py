"""First run over HTTP: nothing is written before its end, no word is taken on trust, and it happens once."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from kiosk_door import HTML, Kiosk, opened
from records_boxes import LEAD_PIN

from appliance.records.clinic_key import PhraseKey, SheetKey
from appliance.records.opening import open_records
from appliance.service.first_run import FORGOTTEN_S
from web.kiosk.first_run import COOKIE


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    kiosk = opened(tmp_path / "records")
    yield kiosk
    if kiosk.clinic.store is not None:
        kiosk.clinic.store.close()


def page(kiosk: Kiosk) -> str:
    return kiosk.get("/first-run").text


def words_of(text: str) -> list[str]:
    return re.findall(r"<li><b>([a-z]{5})</b></li>", text)


def begin(kiosk: Kiosk, *, is_date_right: bool = True) -> None:
    assert kiosk.form("/first-run").location == "/first-run"
    assert kiosk.post("/api/first-run/clinic", name="Kliniek", is_date_right=is_date_right).status_code == 200


def copy_and_type_back(kiosk: Kiosk) -> list[str]:
    """Write down what the page shows and type it back; the page that asks does not show it."""
    words = words_of(page(kiosk))
    kiosk.form("/first-run/next")
    asking = page(kiosk)
    assert [word for word in words if word in asking] == []
    for left, word in zip(reversed(range(len(words))), words, strict=True):
        answer = kiosk.post("/api/first-run/word", word=word)
        assert (answer.status_code, answer.get_json()["left"]) == (200, left)
    return words


def walk(kiosk: Kiosk) -> list[list[str]]:
    begin(kiosk)
    return [copy_and_type_back(kiosk) for _ in range(3)]


def finish(kiosk: Kiosk, pin: str = LEAD_PIN, again: str | None = None, name: str = "Sister Asha") -> tuple[int, str]:
    answer = kiosk.post("/api/first-run/lead", name=name, pin=pin, pin_again=again or pin)
    return answer.status_code, str(answer.get_json().get("error", ""))


def files(kiosk: Kiosk) -> list[str]:
    folder = kiosk.clinic.folder
    assert folder is not None
    return sorted(path.name for path in folder.iterdir())


def test_every_page_leads_to_the_set_up_and_every_other_door_is_shut(kiosk: Kiosk) -> None:
    assert kiosk.clinic.state == "first-run"
    assert kiosk.get("/").location == "/sign-in"
    assert kiosk.get("/sign-in").location == "/first-run"
    assert kiosk.form("/emergency").status_code == 303
    assert kiosk.clinic.session.state == "signed-out"
    assert kiosk.post("/api/sign-in", user_id="0" * 32, pin="000000").status_code == 401


def test_the_whole_way_ends_with_the_lead_signed_in_and_each_secret_opens_the_box(kiosk: Kiosk) -> None:
    phrase, first, second = walk(kiosk)
    assert (len(phrase), len(first), len(second)) == (4, 9, 9)
    before = files(kiosk)
    assert "records.sqlite" not in before
    assert finish(kiosk) == (200, "")
    assert kiosk.clinic.state == "open"
    home = kiosk.get("/").text
    assert "Kliniek" in home
    assert "Sister Asha" in home
    assert kiosk.get("/first-run").status_code == 403
    assert kiosk.post("/api/first-run/word", word="babab").status_code == 403
    folder, store = kiosk.clinic.folder, kiosk.clinic.store
    assert folder is not None
    assert store is not None
    store.close()
    opening = open_records(folder, ballast_bytes=0)
    assert opening.store is not None
    for secret in (PhraseKey(" ".join(phrase)), SheetKey("-".join(first)), SheetKey("-".join(second))):
        opening.store.lock()
        opening.store.unlock(secret)
    opening.store.close()


def test_a_wrong_word_is_refused_at_once_and_asked_for_again(kiosk: Kiosk) -> None:
    begin(kiosk)
    words = words_of(page(kiosk))
    kiosk.form("/first-run/next")
    assert kiosk.post("/api/first-run/word", word=words[0]).get_json() == {"left": 3, "go": None}
    wrong = kiosk.post("/api/first-run/word", word="babab" if words[1] != "babab" else "dabab")
    assert (wrong.status_code, "not word 2" in wrong.get_json()["error"]) == (403, True)
    assert kiosk.form("/first-run/next").status_code == 403
    # Looking again begins that page anew.
    kiosk.form("/first-run/back")
    assert words_of(page(kiosk)) == words
    assert copy_and_type_back(kiosk) == words


def test_no_step_can_be_left_out(kiosk: Kiosk) -> None:
    begin(kiosk)
    assert finish(kiosk)[0] == 403
    assert kiosk.post("/api/first-run/word", word="babab").status_code == 403
    copy_and_type_back(kiosk)
    assert finish(kiosk)[0] == 403
    assert "records.sqlite" not in files(kiosk)


@pytest.mark.parametrize(
    ("pin", "again", "name", "said"),
    [
        ("123456", None, "Asha", "too easy"),
        ("000000", None, "Asha", "too easy"),
        ("4829", None, "Asha", "6 digits"),
        ("482915", "482916", "Asha", "differ"),
        ("482915", None, "  ", "needs a name"),
    ],
)
def test_a_weak_answer_at_the_end_costs_nothing_of_the_way(
    kiosk: Kiosk, pin: str, again: str | None, name: str, said: str
) -> None:
    walk(kiosk)
    status, sentence = finish(kiosk, pin, again, name)
    assert (status, said in sentence, kiosk.clinic.state) == (403, True, "first-run")
    assert finish(kiosk) == (200, "")


def test_another_browser_sees_no_secret_and_cannot_go_on(kiosk: Kiosk) -> None:
    begin(kiosk)
    words, other = words_of(page(kiosk)), kiosk.other_browser()
    assert [word for word in words if word in page(other)] == []
    assert other.form("/first-run/next").status_code in {303, 401}
    assert other.post("/api/first-run/word", word=words[0]).status_code == 401
    assert other.get("/first-run/sheet.pdf").status_code == 401
    assert words_of(page(kiosk)) == words


def test_a_set_up_that_was_cut_or_left_alone_begins_anew_with_other_secrets(kiosk: Kiosk) -> None:
    begin(kiosk)
    words = words_of(page(kiosk))
    kiosk.clock.passed_s += FORGOTTEN_S + 1
    assert "This box keeps photos" in page(kiosk)
    assert kiosk.post("/api/first-run/word", word=words[0]).status_code == 401
    begin(kiosk)
    assert words_of(page(kiosk)) != words
    # As after a power cut: the browser comes back with its old cookie.
    folder = kiosk.clinic.folder
    assert folder is not None
    again = opened(folder)
    again.client.set_cookie(COOKIE, "of the run before")
    assert again.clinic.state == "first-run"
    assert "This box keeps photos" in page(again)


def test_a_date_that_is_called_wrong_stays_unconfirmed(kiosk: Kiosk) -> None:
    begin(kiosk, is_date_right=False)
    for _ in range(3):
        copy_and_type_back(kiosk)
    assert finish(kiosk)[0] == 200
    assert "The date of this box is not confirmed." in kiosk.get("/").text


def test_the_sheet_to_print_is_there_while_it_is_shown_and_kept_by_nobody(kiosk: Kiosk) -> None:
    begin(kiosk)
    assert kiosk.get("/first-run/sheet.pdf").status_code == 403
    copy_and_type_back(kiosk)
    printed = kiosk.client.get("/first-run/sheet.pdf", headers=HTML)
    assert (printed.status_code, printed.mimetype) == (200, "application/pdf")
    assert printed.headers["Cache-Control"] == "no-store"
    kiosk.form("/first-run/next")
    assert kiosk.get("/first-run/sheet.pdf").status_code == 403
