"""Interruptions: who is asked, what is pulled, and that no thread stays behind."""

import threading

from appliance.medgemma.interrupt import Interrupt


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "medgemma-interrupt"]


def test_cancel_pulls_the_brake_in_the_middle_of_a_computation() -> None:
    cancel, brake = threading.Event(), threading.Event()
    with Interrupt(cancel, None, brake.set) as interrupt:
        before = interrupt.reason
        cancel.set()
        assert brake.wait(5)
        assert (before, interrupt.reason) == (None, "cancelled")
    assert watchers() == []


def test_deadline_pulls_the_brake() -> None:
    brake = threading.Event()
    with Interrupt(None, 0.0, brake.set) as interrupt:
        assert brake.wait(5)
        assert interrupt.reason == "deadline"


def test_the_first_reason_stays() -> None:
    cancel = threading.Event()
    with Interrupt(cancel, 0.0, lambda: None) as interrupt:
        assert interrupt.reason == "deadline"
        cancel.set()
        assert interrupt.reason == "deadline"


def test_nothing_to_watch_needs_no_thread() -> None:
    with Interrupt(None, None, lambda: None) as interrupt:
        assert watchers() == []
        assert interrupt.reason is None


def test_run_that_waits_for_its_turn_can_be_cancelled() -> None:
    cancel, lock = threading.Event(), threading.Lock()
    cancel.set()
    with lock, Interrupt(cancel, None, lambda: None) as interrupt:
        assert not interrupt.acquire(lock)


def test_free_turn_is_taken() -> None:
    lock = threading.Lock()
    assert Interrupt(None, None, lambda: None).acquire(lock)
    assert lock.locked()
