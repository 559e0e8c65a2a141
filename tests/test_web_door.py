"""The kiosk's door over HTTP: its cookie, its throttle, its lock, and what each state of the box says."""

import random
from collections.abc import Callable, Iterator
from http.cookies import SimpleCookie
from pathlib import Path

import pytest
from kiosk_door import NURSE_PIN, Door, Kiosk, opened
from records_boxes import LEAD_PIN

from appliance.records import space
from appliance.records.database import DATABASE_NAME
from appliance.records.opening import Opening
from web.kiosk.access import COOKIE


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    door = Door(tmp_path)
    yield door
    door.box.store.close()


def test_the_cookie_is_shut_in_and_new_at_each_sign_in(door: Door) -> None:
    values = set()
    for _ in range(2):
        cookie = SimpleCookie(door.nurse_signs_in().headers["Set-Cookie"])[COOKIE]
        assert (cookie["httponly"], cookie["samesite"], cookie["path"]) == (True, "Strict", "/")
        # It ends with the browser: the browser's profile need not keep it.
        assert (cookie["expires"], cookie["max-age"]) == ("", "")
        values.add(cookie.value)
        assert door.nurse_id not in cookie.value
        assert len(cookie.value) > 40
    assert len(values) == 2


def test_a_second_browser_takes_the_session_over_and_the_first_is_nobody(door: Door) -> None:
    door.nurse_signs_in()
    mine, other = door.kiosk, door.kiosk.other_browser()
    assert other.get("/").location == "/sign-in"
    assert other.sign_in(door.nurse_id, NURSE_PIN).status_code == 200
    assert mine.get("/").location == "/sign-in"
    assert mine.get("/preview").status_code == 401


def test_a_wrong_pin_is_told_with_its_wait(door: Door) -> None:
    for wait_s in (1, 2, 4):
        wrong = door.kiosk.sign_in(door.nurse_id, "000111")
        assert (wrong.status_code, wrong.get_json()) == (403, {"error": "This PIN is wrong.", "wait_s": wait_s})
        held = door.nurse_signs_in()
        assert (held.status_code, held.get_json()["wait_s"]) == (429, wait_s)
        door.box.clock.passed_s += wait_s
    assert f'data-wait="{0.0 or ""}"' in door.kiosk.get("/sign-in").text
    assert door.nurse_signs_in().status_code == 200


def test_a_page_of_the_run_before_can_tell_that_it_is_out_of_date(door: Door) -> None:
    shown = door.kiosk.get("/sign-in").text
    run = door.kiosk.client.get("/api/state").get_json()["session"]["run"]
    assert f'data-run="{run}"' in shown
    door.restart()
    assert door.kiosk.client.get("/api/state").get_json()["session"]["run"] != run


def guesses_compared(door: Door, rng: random.Random, acts: int, forget: Callable[[Door], None] | None = None) -> int:
    """Guess, wait, start the station anew, boot; returns how often a PIN was compared."""
    compared = 0
    for _ in range(acts):
        match rng.choices(["guess", "wait", "restart", "boot"], [6, 3, 1, 0.5])[0]:
            case "guess":
                answer = door.kiosk.sign_in(door.nurse_id, f"{rng.randrange(10**6):06}")
                compared += answer.status_code != 429
            case "wait":
                door.box.clock.passed_s += rng.choice([1, 20, 301])
            case "restart":
                if forget is not None:
                    forget(door)
                door.restart()
            case "boot":
                door.restart(is_boot=True)
    return compared


def test_a_pin_is_guessed_at_most_twenty_times_however_often_the_station_starts(door: Door, seed: int) -> None:
    assert guesses_compared(door, random.Random(seed), 220) <= 20
    while (answer := door.kiosk.sign_in(door.nurse_id, "000111")).get_json()["wait_s"] is not None:
        door.box.clock.passed_s += 301
    # Closed for the right PIN too, and told what to do; nobody else is.
    assert "ask the lead" in answer.get_json()["error"]
    assert door.nurse_signs_in().status_code == 429
    assert 'data-wait="closed"' in door.kiosk.get("/sign-in").text
    assert door.lead_signs_in().status_code == 200
    # The lead gives a new PIN, and the guesses with it.
    assert door.kiosk.post(f"/api/people/{door.nurse_id}/pin", pin="918273").status_code == 200
    assert door.kiosk.sign_in(door.nurse_id, "918273").status_code == 200


def test_control_a_count_that_is_forgotten_at_a_start_gives_guesses_back(door: Door, seed: int) -> None:
    def forget(door: Door) -> None:
        door.box.store.saver.connection.execute("DELETE FROM pin_guard")

    assert guesses_compared(door, random.Random(seed), 220, forget) > 20


def test_locking_hides_the_visit_and_the_same_nurse_comes_back_to_her_page(door: Door) -> None:
    door.nurse_signs_in()
    path = door.kiosk.photograph()
    assert door.kiosk.get(path).status_code == 200
    assert door.kiosk.form("/lock").location == "/sign-in"
    for hidden in ("/", path, "/more", "/shift"):
        assert door.kiosk.get(hidden).location == "/sign-in", hidden
    assert door.kiosk.post(f"/api{path}/captures").status_code == 401
    shown = door.kiosk.get("/sign-in").text
    assert "Nurse's, whose PIN brings it back" in shown
    assert path not in shown
    assert door.nurse_signs_in().get_json()["go"] == path
    assert door.kiosk.get(path).status_code == 200


def test_another_nurse_comes_home_by_the_change_of_shift(door: Door) -> None:
    door.nurse_signs_in()
    path = door.kiosk.photograph()
    door.kiosk.get(path)
    door.kiosk.form("/lock")
    assert door.lead_signs_in().get_json()["go"] == "/shift"
    shift = door.kiosk.get("/shift").text
    assert "Write these words into the paper book" in shift
    assert "<dt>Photos</dt><dd>1</dd>" in shift
    assert door.kiosk.get(path).status_code == 404


def test_what_a_page_asks_by_itself_does_not_keep_the_screen_open(door: Door) -> None:
    door.nurse_signs_in()
    for _ in range(18):
        door.box.clock.passed_s += 10
        state = door.kiosk.client.get("/api/state").get_json()["session"]
        door.kiosk.camera.take()
        door.kiosk.client.get("/preview")
    assert (state["state"], state["idle_left_s"]) == ("locked", 0.0)
    assert door.kiosk.get("/").location == "/sign-in"
    door.nurse_signs_in()
    for _ in range(40):
        door.box.clock.passed_s += 10
        assert door.kiosk.post("/api/touch").get_json()["state"] == "active"


def test_photos_without_a_pin_are_kept_and_nothing_earlier_is_seen(door: Door) -> None:
    door.nurse_signs_in()
    earlier = door.kiosk.photograph()
    door.kiosk.form("/lock")
    begun = door.kiosk.form("/emergency")
    path = str(begun.location)
    door.kiosk.camera.take()
    assert door.kiosk.post(f"/api{path}/captures").status_code == 201
    assert door.kiosk.get(earlier).status_code == 404
    for refused in ("/people", "/unlock", "/date", "/shift", "/secrets"):
        assert door.kiosk.get(refused).status_code in {403, 303}, refused
    assert "without a name and marked for the lead" in door.kiosk.get("/").text
    door.kiosk.form("/lock")
    assert door.kiosk.get(path).location == "/sign-in"
    door.lead_signs_in()
    assert "<dt>Photos without a PIN</dt><dd>1</dd>" in door.kiosk.get("/shift").text


def test_what_changes_people_asks_for_the_pin_just_typed(door: Door) -> None:
    door.lead_signs_in()
    new = {"name": "Nomvula", "role": "nurse", "pin": "264815"}
    door.box.clock.passed_s += 121
    assert door.kiosk.post("/api/people", **new).get_json() == {"error": "Type your PIN once more.", "pin": True}
    assert door.kiosk.post("/api/pin", pin="000111").get_json()["wait_s"] == 1
    door.box.clock.passed_s += 1
    assert door.kiosk.post("/api/pin", pin=LEAD_PIN).status_code == 204
    assert door.kiosk.post("/api/people", **new).status_code == 200
    assert "Nomvula" in door.kiosk.get("/people").text
    assert "too easy" in door.kiosk.post("/api/people", **{**new, "name": "X", "pin": "123456"}).get_json()["error"]


def test_the_last_lead_stays_and_a_second_one_may_go(door: Door) -> None:
    door.lead_signs_in()
    for path, body in (("role", {"role": "nurse"}), ("remove", {})):
        refused = door.kiosk.post(f"/api/people/{door.lead_id}/{path}", **body)
        assert (refused.status_code, "last lead stays" in refused.get_json()["error"]) == (403, True)
    assert door.kiosk.post(f"/api/people/{door.nurse_id}/role", role="lead").status_code == 200
    # Whoever gives their own rights away is out at once.
    assert door.kiosk.post(f"/api/people/{door.lead_id}/remove").get_json() == {"go": "/sign-in"}
    assert door.kiosk.get("/people").location == "/sign-in"
    assert door.lead_signs_in().status_code == 403
    assert door.nurse_signs_in().status_code == 200
    assert door.kiosk.get("/people").status_code == 200


def test_the_morning_unlock_by_phrase_or_sheet(door: Door) -> None:
    door.box.store.lock()
    door.nurse_signs_in()
    home = door.kiosk.get("/").text
    assert "Earlier records cannot be read until they are opened, as each morning." in home
    assert door.kiosk.photograph()
    wrong = door.kiosk.post("/api/unlock", phrase="babab babab babab babab")
    assert wrong.get_json()["error"] == "This is not the clinic's phrase."
    assert 0 < wrong.get_json()["wait_s"] <= 1
    assert door.kiosk.post("/api/unlock", phrase=door.box.made.phrase).status_code == 429
    door.box.clock.passed_s += 1
    assert door.kiosk.post("/api/unlock", phrase=door.box.made.sheets[1].upper()).get_json() == {"go": "/"}
    assert "Earlier records cannot be read" not in door.kiosk.get("/").text
    assert door.kiosk.form("/lock-everything").location == "/sign-in"
    assert not door.box.store.is_unlocked


def test_a_new_phrase_and_new_sheets_replace_the_old(door: Door) -> None:
    door.lead_signs_in()
    shown = door.kiosk.get("/secrets/phrase").text
    words = "-".join(part.split("</b>")[0] for part in shown.split("<li><b>")[1:])
    old = door.box.made.phrase
    wrong = door.kiosk.post("/api/secrets/phrase", phrase=old, new_phrase=words[:-1] + "x")
    assert "typed back differently" in wrong.get_json()["error"]
    assert door.kiosk.post("/api/secrets/phrase", phrase=old, new_phrase=words).status_code == 200
    assert door.kiosk.post("/api/secrets/sheets", phrase=old).status_code == 403
    door.box.clock.passed_s += 1
    assert door.kiosk.post("/api/secrets/sheets", phrase=words).get_json() == {"go": "/secrets/sheets"}
    page = door.kiosk.get("/secrets/sheets").text
    sheet = "-".join(part.split("</b>")[0] for part in page.split("<li><b>")[1:10])
    printed = door.kiosk.get("/secrets/sheets.pdf")
    assert (printed.mimetype, printed.headers["Cache-Control"]) == ("application/pdf", "no-store")
    assert printed.data.count(b"/Type /Page\n") == 2
    door.box.store.lock()
    assert door.kiosk.post("/api/unlock", phrase=door.box.made.sheets[0]).status_code == 403
    door.box.clock.passed_s += 1
    assert door.kiosk.post("/api/unlock", phrase=sheet).status_code == 200
    # For nobody else, and only until they are on paper.
    door.nurse_signs_in()
    assert door.kiosk.get("/secrets/sheets").status_code == 403
    door.lead_signs_in()
    assert door.kiosk.get("/secrets/sheets").location == "/secrets"


def test_a_date_that_is_not_believed_is_asked_for(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door.box.store.saver.calendar, "_is_confirmed", False)
    door.nurse_signs_in()
    assert "The date of this box is not confirmed." in door.kiosk.get("/").text
    assert "Is this the date and the time?" in door.kiosk.get("/date").text
    assert door.kiosk.form("/date").location == "/"
    assert "not confirmed" not in door.kiosk.get("/").text


@pytest.mark.parametrize(
    ("free", "said"), [(1_500_000_000, "getting full"), (400_000_000, "nearly full"), (90_000_000, "is full")]
)
def test_a_full_disk_is_told_on_home(door: Door, monkeypatch: pytest.MonkeyPatch, free: int, said: str) -> None:
    monkeypatch.setattr(space, "look", lambda _: space.Space(free_bytes=free))
    door.nurse_signs_in()
    assert said in door.kiosk.get("/").text


def spoil_database(folder: Path) -> None:
    (folder / DATABASE_NAME).write_bytes(b"garbage" * 4096)


def spoil_by_removing(folder: Path) -> None:
    (folder / DATABASE_NAME).unlink()


def spoil_by_restoring(folder: Path) -> None:
    (folder / DATABASE_NAME).unlink()
    for photo in (folder / "blobs").glob("*"):
        photo.unlink()
    folder.with_name(folder.name + ".restoring").mkdir()


def spoil_by_a_file(folder: Path) -> None:
    folder.rename(folder.with_name("away"))
    folder.write_text("a file where the folder was")


@pytest.mark.parametrize("spoil", [spoil_database, spoil_by_removing, spoil_by_restoring, spoil_by_a_file])
def test_records_that_do_not_open_are_told_and_photos_can_be_taken(door: Door, spoil: Callable[[Path], None]) -> None:
    door.nurse_signs_in()
    door.kiosk.photograph()
    door.box.store.close()
    spoil(door.box.folder)
    kiosk = opened(door.box.folder)
    assert kiosk.clinic.state == "broken"
    assert kiosk.get("/").location == "/sign-in"
    page = kiosk.get("/sign-in")
    assert page.status_code == 200
    assert "The records do not open" in page.text
    for sentence in (kiosk.clinic.opening.found, kiosk.clinic.opening.action):
        assert sentence.split("'")[0] in page.text
    assert kiosk.post("/api/sign-in", user_id=door.nurse_id, pin=NURSE_PIN).status_code == 401
    see_unkept(kiosk)


def see_unkept(kiosk: Kiosk) -> None:
    path = str(kiosk.form("/emergency").location)
    kiosk.camera.take()
    links = kiosk.post(f"/api{path}/captures")
    assert links.status_code == 201, links.text
    assert kiosk.client.get(links.get_json()["image_url"]).status_code == 200
    assert "they are not kept" in kiosk.get("/").text


def test_a_disk_that_takes_no_writes_opens_by_the_phrase(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that went read-only: no guess can be counted, so no PIN is compared."""
    door.box.store.is_read_only = True
    door.box.store.lock()
    opening = Opening(
        state="read-only", found="The disk takes no writes.", action="Have it looked at.", store=door.box.store
    )
    door.kiosk.clinic.opening = opening
    page = door.kiosk.get("/sign-in").text
    assert "The disk takes no writes. Have it looked at." in page
    assert "data-pin-pad" not in page
    refused = door.kiosk.post("/api/sign-in/phrase", user_id=door.nurse_id, phrase="babab babab babab babab")
    assert refused.status_code == 403
    door.box.clock.passed_s += 1
    let_in = door.kiosk.post("/api/sign-in/phrase", user_id=door.nurse_id, phrase=door.box.made.phrase)
    assert (let_in.status_code, door.kiosk.clinic.state) == (200, "open")
    home = door.kiosk.get("/").text
    assert "The disk takes no writes." in home
    # No photo could be kept, so nobody takes any without a PIN either.
    door.kiosk.form("/lock")
    assert "Photos without a PIN" not in door.kiosk.get("/sign-in").text
    assert door.kiosk.form("/emergency").location == "/"
    assert door.kiosk.clinic.session.state == "locked"


def test_the_phrase_is_no_way_around_a_pin_while_guesses_can_be_counted(door: Door) -> None:
    answer = door.kiosk.post("/api/sign-in/phrase", user_id=door.nurse_id, phrase=door.box.made.phrase)
    assert (answer.status_code, door.kiosk.clinic.user) == (423, None)
