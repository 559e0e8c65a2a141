"""`dermstation keys` and `audit verify --fob`: a fob made, listed, used and revoked without the station."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from records_boxes import Box, open_box
from sticks import stick_folder

from appliance.commands.audit import audit
from appliance.commands.keys import keys
from appliance.records.errors import MissingError, NotSavedError, WrongSecretError
from appliance.records.fob_file import FOB_NAME, read_fob


@pytest.fixture
def box(box: Box) -> Box:
    """Closed: the commands open the records themselves."""
    box.store.close()
    return box


@pytest.fixture
def stick() -> Iterator[Path]:
    """On a file system of its own: no fob is made on the box's disk."""
    with stick_folder() as folder:
        yield folder


def run(box: Box, *arguments: str, typed: str = "") -> Result:
    command = audit if arguments[0] == "verify" else keys
    return CliRunner().invoke(command, [*arguments, "--records", str(box.folder)], input=typed)


def test_fob_is_made_listed_used_and_revoked(box: Box, stick: Path) -> None:
    assert "Only the clinic's phrase" in run(box, "list").output
    made = run(box, "make-fob", str(stick), "--name", "Asha's fob", typed=f"{box.made.sheets[0]}\n")
    assert made.exit_code == 0, made.output
    assert "keep it with you" in made.output
    assert box.made.sheets[0] not in made.output
    fob = read_fob(stick)
    assert fob is not None
    assert fob.key.hex() not in made.output
    assert run(box, "list").output.startswith("Asha's fob: key fob, made ")
    verified = run(box, "verify", "--fob", str(stick))
    assert (verified.exit_code, "each by this box" in verified.output) == (0, True)
    assert "opens the records no more" in run(box, "revoke", "Asha's fob").output
    refused = run(box, "verify", "--fob", str(stick))
    assert isinstance(refused.exception, WrongSecretError)
    again = open_box(box.folder, box.made, is_unlocked=False)
    assert again.store.held_slots() == ()
    again.store.close()


def test_what_is_refused_is_a_sentence(box: Box, stick: Path, tmp_path: Path) -> None:
    typed = f"{box.made.sheets[0]}\n"
    assert isinstance(run(box, "revoke", "nobody's").exception, MissingError)
    wrong = run(box, "make-fob", str(stick), "--name", "fob", typed="babab babab babab babab\n")
    assert isinstance(wrong.exception, WrongSecretError)
    own_disk = run(box, "make-fob", str(tmp_path), "--name", "fob", typed=typed)
    assert isinstance(own_disk.exception, NotSavedError)
    assert not (tmp_path / FOB_NAME).exists()
    assert isinstance(run(box, "verify", "--fob", str(stick)).exception, MissingError)
    assert list(stick.iterdir()) == []
