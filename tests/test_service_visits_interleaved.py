"""Nurses, patients, spots, locks and power cuts in any order: each photo stays its visit's, nurse's and patient's."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import Phase, settings
from hypothesis import seed as hypothesis_seed
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from hypothesis.stateful import run_state_machine_as_test as run
from kiosk_station import ManualClock, ObedientCamera
from records_boxes import Box, new_box

from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import DermstationError
from appliance.records.content import CapturedImageContent, DraftContent, EncounterContent, SubjectContent
from appliance.records.opening import Opening
from appliance.records.users import User
from appliance.service.body_sites import all_sites
from appliance.service.clinic import Clinic
from appliance.service.record_captures import VISIT_FORM
from appliance.service.station import Station
from appliance.service.visits import Visits

SITES = tuple(all_sites())


@dataclass(slots=True, kw_only=True)
class Shot:
    """What is known of a photo that was kept."""

    encounter_id: str
    operator_id: str | None


class Ward(RuleBasedStateMachine):
    """Two nurses and somebody without a PIN, at one screen."""

    kept: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="dermstation-ward-"))
        self.box: Box = new_box(self.folder / "records")
        self.nurses = [
            User(user_id=letter * 32, name=letter, role="nurse", pin_hash="", is_active=True) for letter in "ab"
        ]
        self.shots: dict[str, Shot] = {}
        self.of_visit: dict[str, str] = {}
        """Who a visit was said to be, by encounter."""
        self.subjects: list[str] = []

    @initialize()
    def start(self) -> None:
        self.subjects = [self.box.store.add(SubjectContent(pseudonym=f"P{n}"), None).record_ids[0] for n in range(2)]
        self.sit()
        self.clinic.begin(self.nurses[0])
        self.open_visit(1)

    def sit(self) -> None:
        clock = ManualClock()
        clock.passed_s = 1000
        self.camera = ObedientCamera(clock)
        self.clinic = Clinic(Opening(state="ready", found="", store=self.box.store), clock=clock, idle_s=600)
        self.visits = Visits(self.clinic.records, self.clinic.operator)
        engine = EngineClient(EngineAddress(socket=str(self.folder / "nobody.sock")))
        self.station = Station(self.camera, engine, visits=self.visits, clock=clock)
        self.clinic.attach(self.station)

    @property
    def on_screen(self) -> str:
        current = self.station.captures.current
        assert current is not None
        return current.encounter_id

    def is_somebody_there(self) -> bool:
        return self.clinic.session.state == "active"

    def has_visit(self) -> bool:
        return self.is_somebody_there() and self.station.captures.current is not None

    @rule(who=st.integers(0, 2))
    def sign_in(self, who: int) -> None:
        self.clinic.begin(self.nurses[who] if who < 2 else None)

    @rule()
    def lock(self) -> None:
        self.clinic.lock()

    @precondition(is_somebody_there)
    @rule(frames=st.integers(0, 2))
    def open_visit(self, frames: int = 0) -> None:
        self.station.open_encounter()
        for _ in range(frames):
            self.shoot(1, late=False)

    @precondition(has_visit)
    @rule()
    def close_visit(self) -> None:
        self.station.close_encounter(self.on_screen)

    @precondition(has_visit)
    @rule(which=st.integers(0, 1))
    def choose_person(self, which: int) -> None:
        encounter_id = self.on_screen
        try:
            self.visits.choose_person(encounter_id, self.subjects[which])
        except DermstationError:
            assert not self.box.store.is_unlocked
            return
        self.of_visit[encounter_id] = self.subjects[which]

    @precondition(has_visit)
    @rule(which=st.integers(0, len(SITES) - 1))
    def choose_spot(self, which: int) -> None:
        self.visits.lesions.add(self.on_screen, SITES[which], "L")

    @rule(frames=st.integers(1, 2), late=st.booleans())
    def shoot(self, frames: int, late: bool) -> None:
        for _ in range(frames):
            self.camera.take()
        encounter_ids = [self.station.captures.current.encounter_id] if self.station.captures.current else []
        encounter_ids += [shot.encounter_id for shot in self.shots.values()] if late else []
        for encounter_id in encounter_ids:
            try:
                kept = self.station.capture(encounter_id)
            except DermstationError:
                continue
            assert self.has_visit(), "kept although nobody was there"
            Ward.kept += 1
            assert kept.encounter_id == self.on_screen
            self.shots[kept.capture_id] = Shot(encounter_id=kept.encounter_id, operator_id=self.clinic.operator())

    @rule(is_unlocked=st.booleans())
    def power_cut(self, is_unlocked: bool) -> None:
        self.box = self.box.reopen(is_unlocked=is_unlocked)
        self.sit()

    @rule()
    def unlock(self) -> None:
        if not self.box.store.is_unlocked:
            self.box.store.unlock(self.box.sheet())

    @invariant()
    def every_photo_is_where_it_was_taken(self) -> None:
        for capture_id, shot in self.shots.items():
            (row,) = self.box.store.clear_rows(CapturedImageContent, capture_id=capture_id)
            assert row.parents["encounter_id"] == shot.encounter_id
            if row.revision == 1:
                assert row.operator_id == shot.operator_id
            (visit,) = self.box.store.clear_rows(EncounterContent, encounter_id=shot.encounter_id)
            if shot.encounter_id in self.of_visit:
                assert visit.parents["subject_id"] == self.of_visit[shot.encounter_id]

    @invariant()
    def the_visit_on_the_screen_is_of_whoever_is_there(self) -> None:
        if not self.has_visit():
            return
        drafts = self.box.store.clear_rows(DraftContent, encounter_id=self.on_screen)
        assert {row.operator_id for row in drafts if row.parents["form"] == VISIT_FORM} <= {self.clinic.operator()}

    @invariant()
    def nobody_without_a_pin_sees_an_earlier_visit(self) -> None:
        if self.is_somebody_there() and self.clinic.is_emergency:
            assert self.visits.waiting() == ()

    def teardown(self) -> None:
        assert self.box.store.verify_audit().problems == ()
        self.box.store.close()
        shutil.rmtree(self.folder)


def test_no_order_of_things_mixes_up_visits(seed: int) -> None:
    machine = hypothesis_seed(seed)(Ward)
    # A failing order is printed as it was found: shrinking it would take minutes.
    chosen = settings(max_examples=80, stateful_step_count=20, deadline=None, database=None, phases=[Phase.generate])
    Ward.kept = 0
    run(machine, settings=chosen)
    assert Ward.kept > 20, "hardly anything happened"


def change_of_nurses() -> Ward:
    ward = Ward()
    ward.start()
    ward.sign_in(0)
    ward.open_visit()
    ward.shoot(1, late=False)
    ward.sign_in(1)
    return ward


def test_control_in_which_a_visit_stays_for_the_next_nurse_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    ward = change_of_nurses()
    ward.the_visit_on_the_screen_is_of_whoever_is_there()
    ward.teardown()
    monkeypatch.setattr(Station, "leave_screen", lambda _: None)
    ward = change_of_nurses()
    with pytest.raises(AssertionError):
        ward.the_visit_on_the_screen_is_of_whoever_is_there()
    ward.teardown()
