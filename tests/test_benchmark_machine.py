"""What `dermstation bench` measures and reads of a machine, and what it makes of it."""

import io
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from appliance.benchmark.bandwidth import read_bandwidth_gb_per_s
from appliance.benchmark.machine import Climate, describe_machine, peak_rss_bytes, read_climate
from appliance.benchmark.model import Answered, Run, reading_speed, weight_bytes_per_token, writing_speed
from appliance.benchmark.prompts import photo
from appliance.benchmark.summary import Measured, page
from appliance.demo import bundle_path
from appliance.medgemma.bundle import load_bundle

SILENT = Climate(temperature_c=None, frequency_mhz=None, throttled=None)
MACHINE: dict[str, Any] = {"processor": "Cortex-A76", "cores": 4, "memory_gb": 8.0, "architecture": "aarch64"}


def answered(tokens: int = 21, writing_s: float = 2.0, prompt_tokens: int = 600, vision_s: float = 0.0) -> Answered:
    return Answered(
        prompt_tokens=prompt_tokens,
        tokens=tokens,
        vision_s=vision_s,
        read_ahead_s=1.0 if vision_s else 0.0,
        first_token_s=10.0,
        writing_s=writing_s,
    )


def measured(*runs: Run, **changes: Any) -> Measured:
    result = Measured(
        at="2026-11-22T08:00:00+00:00",
        machine=MACHINE,
        bundle="medgemma",
        warning=None,
        disk_bytes=3_000_000_000,
        providers=("CPUExecutionProvider",),
        threads=4,
        load_before=0.2,
        climate_before=SILENT,
        climate_after=SILENT,
        load_s=6.0,
        peak_rss_bytes=4_000_000_000,
        weight_bytes=2_000_000_000,
        bandwidth_gb_per_s=25.0,
        runs=runs or (run(),),
    )
    return replace(result, **changes)


def run(vision_s: float = 7.0) -> Run:
    return Run(short=answered(), long=answered(), assessment=answered(vision_s=vision_s))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_the_hottest_sensor_and_the_slowest_core_count(tmp_path: Path) -> None:
    cpu = "sys/devices/system/cpu"
    root = write(
        tmp_path,
        {
            "sys/class/thermal/thermal_zone0/temp": "41000\n",
            "sys/class/thermal/thermal_zone1/temp": "66500\n",
            f"{cpu}/cpu0/cpufreq/scaling_cur_freq": "2400000\n",
            f"{cpu}/cpu1/cpufreq/scaling_cur_freq": "1500000\n",
            f"{cpu}/cpu0/thermal_throttle/core_throttle_count": "2\n",
            f"{cpu}/cpu1/thermal_throttle/core_throttle_count": "3\n",
        },
    )
    assert read_climate(root) == Climate(temperature_c=66.5, frequency_mhz=1500.0, throttled=5)


def test_sensors_that_do_not_answer_are_left_out(tmp_path: Path) -> None:
    root = write(tmp_path, {"sys/class/thermal/thermal_zone0/temp": "not ready\n"})
    assert read_climate(root) == SILENT


def test_an_arm_board_is_named_by_its_model_line(tmp_path: Path) -> None:
    files = {"proc/cpuinfo": "processor\t: 0\n\nModel\t\t: Pi 5\n", "proc/meminfo": "MemTotal:  8000000 kB\n"}
    machine = describe_machine(write(tmp_path, files))
    assert (machine["processor"], machine["memory_gb"]) == ("Pi 5", 8.2)


def test_a_machine_without_proc_is_described_all_the_same(tmp_path: Path) -> None:
    assert describe_machine(tmp_path)["memory_gb"] is None
    assert "memory unknown" in page(measured(machine=MACHINE | {"memory_gb": None}))


def test_memory_is_read_at_a_speed_that_exists() -> None:
    speed = read_bandwidth_gb_per_s(2, block_bytes=1 << 24, passes=2)
    assert 0.1 < speed < 2000
    assert peak_rss_bytes() > 2 << 24


def test_photos_are_square_jpegs_and_differ() -> None:
    pictures = [photo(seed, 64) for seed in (1, 2)]
    assert pictures[0] != pictures[1]
    assert pictures[0] == photo(1, 64)
    with Image.open(io.BytesIO(pictures[0])) as image:
        assert (image.format, image.size) == ("JPEG", (64, 64))


def test_writing_is_timed_over_all_tokens_but_each_first() -> None:
    assert writing_speed([answered(tokens=11, writing_s=1.0), answered(tokens=31, writing_s=3.0)]) == 10.0
    assert writing_speed([answered(tokens=1, writing_s=0.0)]) is None


def test_reading_is_a_median() -> None:
    assert reading_speed([answered(prompt_tokens=count) for count in (100, 600, 700)]) == 60.0


def test_each_token_reads_all_weights_but_the_vision_towers_and_the_fine_half() -> None:
    bundle = load_bundle(bundle_path())
    sizes = {path.name: path.stat().st_size for path in bundle_path().glob("*.onnx.data")}
    assert bundle.manifest.halved_table is not None
    unread = sizes["vision.onnx.data"] + sizes[bundle.manifest.halved_table.fine.file]
    assert 0 < unread < sum(sizes.values())
    assert weight_bytes_per_token(bundle) == sum(sizes.values()) - unread


def test_figures_and_their_meaning() -> None:
    found = measured()
    figures = found.figures()
    assert figures["prefill_tokens_per_s"] == 60.0
    assert figures["decode_long_tokens_per_s"] == 10.0
    assert figures["assessment_s"] == 20.0
    assert figures["decode_long_of_bandwidth"] == pytest.approx(0.8)
    assert found.meaning() == ["A photo is described in about 20 seconds on this machine."]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"load_before": 3.0}, "Other programs were busy (load 3.0): measure again when it is quiet."),
        ({"runs": (run(7.0), run(27.0))}, "The runs differ much, between 20 seconds and 40 seconds: "),
        (
            {"climate_before": replace(SILENT, throttled=1), "climate_after": replace(SILENT, throttled=2)},
            "The processor slowed down because of heat: ",
        ),
        ({"peak_rss_bytes": 6_500_000_000}, "The model takes most of this machine's 8.0 GB of memory: "),
        ({"warning": "not for patients"}, 'The model is marked "not for patients": name your own with --bundle.'),
        ({"runs": (run(239.0),)}, "A photo is described in about 4 minutes on this machine."),
    ],
)
def test_what_a_technician_should_know_is_said(changes: dict[str, Any], sentence: str) -> None:
    assert any(line.startswith(sentence) for line in measured(**changes).meaning())
    assert sentence in page(measured(**changes))


def test_runs_that_differ_by_less_than_people_notice_are_not_named() -> None:
    quick = replace(answered(writing_s=0.1), first_token_s=0.1)
    runs = tuple(Run(short=quick, long=quick, assessment=replace(quick, vision_s=value)) for value in (0.1, 0.5))
    assert measured(*runs).meaning() == ["A photo is described in about 1 second on this machine."]


def test_the_page_fits_a_screen() -> None:
    warm = Climate(temperature_c=45.2, frequency_mhz=2400.0, throttled=0)
    lines = page(measured(climate_before=warm, climate_after=replace(warm, temperature_c=61.0))).splitlines()
    assert len(lines) <= 24
    assert max(map(len, lines)) <= 100
    assert any(line.endswith("load 0.2, 45 to 61 °C, 2400 to 2400 MHz") for line in lines)


def test_the_command_measures_the_demonstration_bundle() -> None:
    # A process of its own: it replaces itself by one with memory in huge pages.
    command = [sys.executable, "-m", "appliance", "bench", "--runs", "1", "--threads", "1", "--json"]
    found = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    assert found["threads"] == 1
    assert found["figures"]["assessment_s"] > 0
    assert found["figures"]["decode_schema_tokens_per_s"] > 0
    assert len(found["runs"]) == 1
    assert re.fullmatch(r"A photo is described in about \d+ \w+ on this machine\.", found["meaning"][0])
