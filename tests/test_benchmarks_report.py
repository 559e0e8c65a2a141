"""What the harness prints and keeps."""

import json
from pathlib import Path

from harness.figures import summarise
from harness.peers import BASELINE, OURS, peers
from harness.prompts import UNBOUNDED_ASSESSMENT_SCHEMA
from harness.report import notes, table, write_json
from jsonschema import Draft202012Validator

from appliance.assessment import ASSESSMENT_SCHEMA

SAMPLES: dict[str, dict[str, list[float | None]]] = {
    "decode_600": {OURS: [10.0, 12.0], BASELINE: [5.0, 8.0]},
    "image": {OURS: [20.0, 21.0]},
    "anonymous_gb": {OURS: [1.234, 1.234], BASELINE: [4.0, 4.0]},
}


def test_a_row_shows_medians_ratios_and_promises() -> None:
    lines = table(summarise(SAMPLES, OURS, BASELINE), OURS, [BASELINE]).splitlines()
    assert lines[0] == f"| figure | {OURS} | {BASELINE} | ratio to {BASELINE} | promised | kept |"
    assert lines[2] == (
        "| decode at context 600, tokens/s | 11 | 6.5 | 1.75 | must >= 1.2x, aim >= 1.5x | must yes, aim yes |"
    )


def test_what_is_missing_is_said() -> None:
    lines = table(summarise(SAMPLES, OURS, BASELINE), OURS, [BASELINE]).splitlines()
    assert lines[3].startswith("| one photo to features, s | 20.5 | - | - |")
    assert lines[3].endswith("| must not measured, aim not measured |")


def test_every_row_has_as_many_cells() -> None:
    lines = table(summarise(SAMPLES, OURS, BASELINE), OURS, [BASELINE, "another"]).splitlines()
    assert {line.count("|") for line in lines} == {9}


def test_rounds_that_lie_far_apart_are_named() -> None:
    entries = summarise({"image": {OURS: [10.0, 17.0], BASELINE: [10.0, 14.0]}}, OURS, BASELINE)
    assert notes(entries, []) == [f"one photo to features: the rounds of {OURS} lie far apart, 10 to 17 s."]


def test_answers_that_go_round_in_circles_are_named() -> None:
    timings = [
        {"engine": OURS, "tokens": 48, "distinct_tokens": 3},
        {"engine": OURS, "tokens": 48, "distinct_tokens": 40},
        {"engine": BASELINE, "tokens": 48, "distinct_tokens": 47},
        {"engine": BASELINE, "tokens": 1, "distinct_tokens": 1},
    ]
    (line,) = notes([], timings)
    assert line.startswith(f"{OURS} wrote only 3 different tokens of 48")


def test_the_file_keeps_every_sample(tmp_path: Path) -> None:
    entries = summarise(SAMPLES, OURS, BASELINE)
    write_json(tmp_path / "new" / "result.json", {"figures": entries})
    kept = json.loads((tmp_path / "new" / "result.json").read_text())
    assert kept["figures"] == entries
    assert kept["figures"][0]["samples"][OURS] == [10.0, 12.0]


def test_missing_peers_are_named_with_the_way_to_get_them(tmp_path: Path) -> None:
    found, missing = peers(tmp_path, threads=2)
    assert found == []
    assert len(missing) == 3
    assert all("make bench-peers" in sentence for sentence in missing)


def test_prepared_peers_are_found_and_photos_are_read_once_by_each_library(tmp_path: Path) -> None:
    llama_cpp = ("llama-cpp/bin/python", "model-Q4_0.gguf", "model-Q4_K_M.gguf", "mmproj-f16.gguf")
    for name in (*llama_cpp, "openvino/bin/python", "openvino-int4/openvino_language_model.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found, missing = peers(tmp_path, threads=2)
    assert missing == []
    assert {command.name: command.reads_photos for command in found} == {
        BASELINE: True,
        "llama.cpp Q4_K_M": False,
        "OpenVINO GenAI int4": True,
    }
    assert found[0].options["threads"] == 2


def test_the_unbounded_schema_is_the_longest_assessment_without_its_limit() -> None:
    Draft202012Validator.check_schema(UNBOUNDED_ASSESSMENT_SCHEMA)
    assessment = {
        "quality": "ok",
        "skin_tone": "dark",
        "number": "single",
        "asymmetry": "one axis",
        "border": "regular",
        "colours": ["black"],
        "diameter_mm": "3-6",
        "surface": "flat",
        "description": "a" * 5000,
    }
    unbounded, bounded = Draft202012Validator(UNBOUNDED_ASSESSMENT_SCHEMA), Draft202012Validator(ASSESSMENT_SCHEMA)
    assert unbounded.is_valid(assessment)
    assert not bounded.is_valid(assessment)
    assert bounded.is_valid(assessment | {"description": "round"})
    assert not unbounded.is_valid({"quality": "blurred", "description": "a"})
