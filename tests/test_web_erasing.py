"""Erasing at the kiosk: two people, one plan, and a sentence for everything that can come between."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kiosk_records import NURSE_PIN, TECHNICIAN_PIN, add_user
from records_boxes import LEAD_PIN, erase, visit
from test_web_visits import Kiosk

from appliance.records.content import EncounterContent, SubjectContent
from appliance.records.errors import ErasedError
from appliance.service.erasures import PROPOSAL_S
from web.kiosk.access import COOKIE


@pytest.fixture
def kiosk(tmp_path: Path) -> Iterator[Kiosk]:
    found = Kiosk(tmp_path)
    yield found
    found.box.store.close()


class Erasing:
    """A patient, and the two requests that erase them."""

    def __init__(self, kiosk: Kiosk, mark: str = "gone") -> None:
        self.kiosk, self.visited = kiosk, visit(kiosk.box, mark)
        self.path = f"/patients/{self.visited.subject_id}/erase"
        kiosk.lead_signs_in()

    def digest(self) -> str:
        page = self.kiosk.page(self.path)
        return page.split('data-digest="')[1].split('"')[0]

    def proposes(self, **changed: str) -> Any:
        body = {"reason": "asked-for", "digest": self.digest(), **changed}
        return self.kiosk.post(f"/api{self.path}", json=body)

    def confirms(self, user_id: str | None = None, pin: str = NURSE_PIN) -> Any:
        body = {"user_id": user_id or self.kiosk.nurse.user_id, "pin": pin}
        return self.kiosk.post(f"/api{self.path}/confirm", json=body)

    def refused(self, reply: Any, status: int, words: str) -> None:
        assert (reply.status_code, words in reply.get_json()["error"]) == (status, True), reply.text
        self.is_there()

    def is_there(self) -> None:
        assert self.kiosk.box.store.get(SubjectContent, self.visited.subject_id).revision == 1


@pytest.fixture
def erasing(kiosk: Kiosk) -> Erasing:
    return Erasing(kiosk)


def entries(kiosk: Kiosk, action: str) -> list[tuple[Any, ...]]:
    return kiosk.box.store.saver.connection.execute(
        "SELECT operator_id, detail, objects FROM audit WHERE action = ?", (action,)
    ).fetchall()


def test_two_people_erase_a_patient_who_is_gone_everywhere(kiosk: Kiosk, erasing: Erasing) -> None:
    page = kiosk.page(erasing.path)
    assert "1 visit, 22 Nov 2026" in page
    assert "1 photo<" in page
    assert "nobody can bring it back" in page
    assert "No backup was made here" in page
    assert "No patient data" in page
    reply = erasing.proposes()
    assert reply.get_json()["go"] == f"{erasing.path}/confirm"
    second = kiosk.page(f"{erasing.path}/confirm")
    assert "Thandi" in second
    assert "Sam" not in second  # a technician reads no record, and confirms none
    assert 'data-user="' + kiosk.box.lead.user_id not in second
    erasing.is_there()
    assert erasing.confirms().get_json() == {"go": "/erased"}
    with pytest.raises(ErasedError):
        kiosk.box.store.get(SubjectContent, erasing.visited.subject_id)
    assert kiosk.post("/api/patients/find", json={"text": "gone"}).get_json() == {"people": []}
    for path in (f"/patients/{erasing.visited.subject_id}", erasing.path, f"{erasing.path}/confirm",
                 f"/records/photos/{erasing.visited.capture_id}",
                 f"/records/photos/{erasing.visited.capture_id}/small"):  # fmt: skip
        assert kiosk.client.get(path).status_code == 404, path
    ((operator_id, detail, objects),) = entries(kiosk, "erased")
    assert (operator_id, detail) == (kiosk.box.lead.user_id, f"asked-for, witness {kiosk.nurse.user_id}")
    assert "gone" not in objects
    assert kiosk.box.store.verify_audit().problems == ()
    assert "key is left" in kiosk.page("/erased")
    assert kiosk.clinic.page == "/"
    # The second person signed in nowhere, and no change of shift begins with it.
    assert kiosk.clinic.user == kiosk.box.lead
    assert [one[0] for one in entries(kiosk, "pin-confirmed")] == [kiosk.nurse.user_id]


def test_page_says_how_many_backups_and_older_copies_still_hold_somebody(
    kiosk: Kiosk, erasing: Erasing, tmp_path: Path
) -> None:
    from appliance.records.backup import make_backup

    (tmp_path / "stick").mkdir()
    make_backup(kiosk.box.store, tmp_path / "stick", label="stick B")
    (tmp_path / "records.before-12-1").mkdir()
    page = kiosk.page(erasing.path)
    assert "stick B): until each stick was backed up 2 times more" in page
    assert "records.before-12-1" in page


def test_one_person_is_not_two(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    before = len(entries(kiosk, "pin-tried"))
    erasing.refused(erasing.confirms(kiosk.box.lead.user_id, LEAD_PIN), 403, "takes two people")
    erasing.refused(erasing.confirms(kiosk.technician.user_id, TECHNICIAN_PIN), 403, "may not do this")
    assert len(entries(kiosk, "pin-tried")) == before  # refused before any PIN was compared
    assert erasing.confirms("0" * 32).status_code == 404


def test_wrong_pins_are_counted_and_cost_time(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    reply = erasing.confirms(pin="000001")
    erasing.refused(reply, 403, "PIN is wrong")
    assert reply.get_json()["wait_s"] > 0
    erasing.refused(erasing.confirms(), 429, "try again in")
    kiosk.clinic.clock.passed_s += 2  # type: ignore[attr-defined]  # a clock that obeys
    assert erasing.confirms().status_code == 200


def test_nothing_is_erased_without_a_proposal_of_this_session(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.refused(erasing.confirms(), 404, "The lead proposes it again")
    erasing.proposes()
    kiosk.clinic.lock()
    kiosk.lead_signs_in()
    erasing.refused(erasing.confirms(), 404, "in another session")
    assert kiosk.client.get(f"{erasing.path}/confirm").status_code == 404
    erasing.proposes()
    kiosk.post(f"{erasing.path}/withdraw")
    erasing.refused(erasing.confirms(), 404, "nothing was erased")
    other = Erasing(kiosk, "other")
    other.proposes()
    erasing.refused(erasing.confirms(), 404, "nothing was erased")


def test_proposal_ends_by_itself_and_with_the_screen(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    kiosk.clinic.clock.passed_s += PROPOSAL_S + 1  # type: ignore[attr-defined]  # a clock that obeys
    kiosk.clinic.touch()
    erasing.refused(erasing.confirms(), 404, "too long ago")
    kiosk.lead_signs_in()
    erasing.proposes()
    kiosk.clinic.clock.passed_s += 601  # type: ignore[attr-defined]  # longer than the screen stays open
    erasing.refused(erasing.confirms(), 401, "screen is locked")


def test_lead_who_has_left_since_erases_nobody(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    kiosk.nurse_signs_in()
    erasing.refused(erasing.confirms(), 403, "may not do this")


def test_proposing_needs_the_leads_pin_typed_just_now(kiosk: Kiosk, erasing: Erasing) -> None:
    kiosk.clinic.clock.passed_s += 130  # type: ignore[attr-defined]  # a clock that obeys
    reply = erasing.proposes()
    assert (reply.status_code, reply.get_json()["pin"]) == (403, True)
    kiosk.nurse_signs_in()
    assert kiosk.post(f"/api{erasing.path}", json={"reason": "asked-for", "digest": ""}).status_code == 403


def test_what_was_shown_is_what_is_erased(kiosk: Kiosk, erasing: Erasing) -> None:
    old = erasing.digest()
    erasing.proposes()
    kiosk.box.store.add(EncounterContent(), None, subject_id=erasing.visited.subject_id)
    erasing.refused(erasing.confirms(), 507, "meanwhile")
    erasing.refused(erasing.proposes(digest=old), 507, "Look again")
    assert "2 visits" in kiosk.page(erasing.path)
    erasing.proposes()
    assert erasing.confirms().status_code == 200


def test_visit_on_the_screen_is_not_erased(kiosk: Kiosk) -> None:
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    (found,) = kiosk.post("/api/patients/find", json={"text": ""}).get_json()["people"]
    path = f"{found['url']}/erase"
    digest = kiosk.page(path).split('data-digest="')[1].split('"')[0]
    asked = {"reason": "by-mistake", "digest": digest}
    reply = kiosk.post(f"/api{path}", json=asked)
    assert (reply.status_code, "Close it first" in reply.text) == (507, True)
    kiosk.post(f"/encounters/{encounter_id}/close")
    asked["digest"] = kiosk.page(path).split('data-digest="')[1].split('"')[0]
    assert kiosk.post(f"/api{path}", json=asked).status_code == 200
    body = {"user_id": kiosk.nurse.user_id, "pin": NURSE_PIN}
    assert kiosk.post(f"/api{path}/confirm", json=body).status_code == 200
    with pytest.raises(ErasedError):
        kiosk.box.store.get(EncounterContent, encounter_id)


def test_visit_that_comes_to_the_screen_after_the_proposal_is_not_erased(kiosk: Kiosk) -> None:
    """The lead goes back and opens it again before the second person comes."""
    kiosk.lead_signs_in()
    encounter_id = kiosk.opens()
    kiosk.shoots(encounter_id)
    subject_id = str(kiosk.station.visits and kiosk.station.visits.photos.subject_of(encounter_id))
    path = f"/patients/{subject_id}/erase"
    kiosk.nurse_signs_in()  # the visit leaves the screen, still open
    kiosk.lead_signs_in()
    kiosk.station.leave_screen()
    page = kiosk.page(path)
    assert "1 form or visit not finished yet" in page
    asked = {"reason": "asked-for", "digest": page.split('data-digest="')[1].split('"')[0]}
    assert kiosk.post(f"/api{path}", json=asked).status_code == 200
    kiosk.post(f"/encounters/{encounter_id}/resume")
    reply = kiosk.post(f"/api{path}/confirm", json={"user_id": kiosk.nurse.user_id, "pin": NURSE_PIN})
    assert (reply.status_code, "Close it first" in reply.text) == (507, True)
    assert entries(kiosk, "pin-confirmed") == []


def test_while_a_backup_runs_nothing_is_erased(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    with kiosk.box.store.backing_up:
        erasing.refused(erasing.confirms(), 507, "backup is being written")
    # The proposal holds: the second person types the PIN again when the backup is done.
    assert erasing.confirms().status_code == 200


def test_locked_records_erase_nobody(kiosk: Kiosk, erasing: Erasing) -> None:
    digest = erasing.digest()
    erasing.proposes()
    kiosk.box.store.lock()
    assert kiosk.client.get(erasing.path).status_code == 423
    assert kiosk.post(f"/api{erasing.path}", json={"reason": "asked-for", "digest": digest}).status_code == 423


def test_patient_who_was_erased_meanwhile_is_gone(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    erase(kiosk.box, erasing.visited.subject_id, kiosk.nurse)
    reply = erasing.confirms()
    assert (reply.status_code, "erased already" in reply.text) == (404, True)


def test_clinic_of_one_person_is_told_whom_it_needs(kiosk: Kiosk, erasing: Erasing) -> None:
    assert kiosk.clinic.people is not None
    kiosk.clinic.people.remove(kiosk.nurse.user_id, kiosk.box.lead)
    page = kiosk.page(erasing.path)
    assert "Add a nurse or a second lead first" in page
    assert "data-digest" not in page
    second = add_user(kiosk.box, "Sister Ruth", "lead", "620814")
    erasing.proposes()
    assert erasing.confirms(second.user_id, "620814").status_code == 200


def test_retention_list_leads_to_the_same_way(kiosk: Kiosk, erasing: Erasing, monkeypatch: pytest.MonkeyPatch) -> None:
    from appliance.records.retention import Due

    due = Due(subject_id=erasing.visited.subject_id, pseudonym="P-gone", visits=1,
              last_seen_at=kiosk.box.clock.now_at())  # fmt: skip
    monkeypatch.setattr("web.kiosk.upkeep.due_for_erasing", lambda *_: (due,))
    assert f"{erasing.path}?why=kept-long-enough" in kiosk.page("/upkeep/retention")
    page = kiosk.page(f"{erasing.path}?why=kept-long-enough")
    assert 'value="kept-long-enough" checked' in page
    assert erasing.path in kiosk.page(f"/patients/{erasing.visited.subject_id}")
    kiosk.nurse_signs_in()
    assert erasing.path not in kiosk.page(f"/patients/{erasing.visited.subject_id}")
    assert kiosk.client.get(erasing.path).status_code == 403


def test_without_a_pin_nobody_erases(kiosk: Kiosk, erasing: Erasing) -> None:
    erasing.proposes()
    kiosk.client.set_cookie(COOKIE, kiosk.clinic.begin_emergency())
    erasing.refused(erasing.confirms(), 403, "Without a PIN")
