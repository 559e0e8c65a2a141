"""Golden answers: a finished bundle is asked once, in the runtime that ships, and carries what it said.

The engine asks the same at every start (`appliance/medgemma/self_test.py`), and leaves the model off if it answers
otherwise. Recording changes the bundle's identity: it comes before a signature.
"""

from pathlib import Path
from typing import Final

import msgspec

from appliance.assessment import ASSESSMENT_PROMPT
from appliance.demo import pictures_path
from appliance.medgemma.bundle import MANIFEST_NAME, GoldenAnswer, Manifest, load_bundle, manifest_to_json
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.file_record import file_record
from appliance.medgemma.self_test import record_golden_answer
from export.errors import CheckpointError
from export.staging import replace_file

_PROMPTS: Final = (
    "What do you see?",
    "Describe the lesion.",
    "Is the border regular?",
    "Name the parts of the skin.",
    ASSESSMENT_PROMPT,
)
"""Asked in turn until the model is sure of an answer's first token. The assessment comes last: it begins with a key
that says nothing about the picture."""


def record_golden_answers(path: Path, picture: Path | None = None) -> tuple[GoldenAnswer, ...]:
    """Write golden answers into a bundle: one without a picture and, where the model takes pictures, one with.

    Args:
        path: The bundle; those that it carries are replaced.
        picture: A JPEG or PNG file; a drawn lesion by default.

    Raises:
        BundleError: The bundle is damaged or does not open.
        CheckpointError: The model is sure of nothing: no token of any answer was clearly ahead.
        StorageError: The bundle cannot be written.
    """
    manifest = _without_answers(path)
    picture = picture or min(pictures_path().glob("*.jpg"))
    files = dict(manifest.files)
    with MedGemma.load(path, RuntimeOptions()) as model:
        answers = [_first_sure(model, None)]
        if manifest.architecture.vision is not None:
            answers.append(_first_sure(model, picture))
    found = tuple(answer for answer in answers if answer is not None)
    if not found:
        raise CheckpointError(f"The model in {path} is not sure of any token, so it has no golden answers.")
    if any(answer.image_file for answer in found):
        replace_file(path / picture.name, picture.read_bytes())
        files[picture.name] = file_record(path / picture.name)
    manifest = msgspec.structs.replace(manifest, golden_answers=found, files=files)
    replace_file(path / MANIFEST_NAME, manifest_to_json(manifest))
    return found


def _without_answers(path: Path) -> Manifest:
    """Take earlier golden answers and their photos out of a bundle, and return what it then says of itself.

    Raises:
        BundleError: The bundle is damaged.
    """
    manifest = load_bundle(path).manifest
    photos = {answer.image_file for answer in manifest.golden_answers}
    files = {name: record for name, record in manifest.files.items() if name not in photos}
    manifest = msgspec.structs.replace(manifest, golden_answers=(), files=files)
    replace_file(path / MANIFEST_NAME, manifest_to_json(manifest))
    for name in filter(None, photos):
        (path / name).unlink(missing_ok=True)
    return manifest


def _first_sure(model: MedGemma, picture: Path | None) -> GoldenAnswer | None:
    answers = (record_golden_answer(model, prompt, picture) for prompt in _PROMPTS)
    return next((answer for answer in answers if answer is not None), None)
