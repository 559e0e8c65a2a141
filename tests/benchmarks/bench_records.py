"""How long the records take: saving a photo visit, and finding and opening one among many.

    .venv/bin/python tests/benchmarks/bench_records.py [--encounters 50000] [--saves 300] [--folder DIR]

Everything goes the station's own way, fsyncs included; `--folder` says on which disk. Prints one line a figure.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from records_boxes import Box, assess, described, new_box, visit

from appliance.records.backup import make_backup
from appliance.records.content import CapturedImageContent, Content, EncounterContent, SubjectContent
from appliance.records.drafts import Drafts
from appliance.records.store import new_id

PHOTO_BYTES = 1_500_000
"""A dermatoscope's JPEG."""
BATCH = 250
"""Subjects in one save while the box is filled."""
VISITS_EACH = 2
DISK_BYTES = 400 << 20
NAMES = ("Nomvula", "Sipho", "Aïcha", "Lindiwe", "Thabo", "Zanele", "Amina", "Kwame", "Ngozi", "Pilar")


def percentile(taken: list[float], share: float) -> float:
    return sorted(taken)[min(len(taken) - 1, int(share * len(taken)))] * 1e3


def report(name: str, taken: list[float]) -> None:
    figures = ", ".join(f"p{round(share * 100)} {percentile(taken, share):.1f}" for share in (0.5, 0.95, 0.99))
    print(f"{name}: {figures} ms (n={len(taken)})")


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure_saving(box: Box, count: int, rng: random.Random) -> None:
    content = b"\xff\xd8\xff" + rng.randbytes(PHOTO_BYTES)

    def photo_visit() -> None:
        subject_id, encounter_id = new_id(), new_id()
        box.store.add_all(
            [
                (SubjectContent(pseudonym="x", name="Nomvula Dlamini"), subject_id, {}, None),
                (EncounterContent(reason="spot"), encounter_id, {"subject_id": subject_id}, None),
                (described(content), new_id(), {"encounter_id": encounter_id}, content),
            ],
            box.lead.user_id,
        )

    report(f"save of a visit with a photo of {PHOTO_BYTES / 1e6:.1f} MB", [timed(photo_visit) for _ in range(count)])
    small = lambda: box.store.add(SubjectContent(pseudonym="x"), box.lead.user_id)  # noqa: E731 - one line to time
    report("save of a record without a photo", [timed(small) for _ in range(count)])


def measure_a_day(folder: Path) -> None:
    """P8: what 60 visits with drafts and an assessment write to the disk, its own journal included, photos left out."""
    with own_disk(folder) as disk:
        box = new_box((disk or folder) / "day")
        before = written_bytes(box.folder)
        for number in range(60):
            visited = visit(box, f"visit {number}", size=1000)
            for field in range(8):
                Drafts(box.store).save(visited.encounter_id, "history", {"words": "w" * field}, box.lead.user_id)
            assess(box, visited.encounter_id, "a mole")
        written = written_bytes(box.folder) - before
        box.store.close()
    where = "to a disk of its own" if disk is not None else "to the disk, with whatever else wrote there (not root)"
    print(f"written in a day of 60 visits: {written / 1e6:.1f} MB {where}")


@contextmanager
def own_disk(folder: Path) -> Iterator[Path | None]:
    """Mount a new ext4 that nobody else writes to; None without the right to."""
    image, mount_point = folder / "disk.img", folder / "disk"
    mount_point.mkdir()
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    made = subprocess.run(["mkfs.ext4", "-q", image], capture_output=True, check=False).returncode == 0
    mounted = made and subprocess.run(["mount", "-o", "loop", image, mount_point], capture_output=True, check=False)
    if not mounted or mounted.returncode != 0:
        yield None
        return
    try:
        yield mount_point
    finally:
        subprocess.run(["umount", "-l", mount_point], check=True)


def written_bytes(folder: Path) -> int:
    """What was sent to the block device under a folder: what wears a card, which the pages a process touches do not."""
    os.sync()
    device = folder.stat().st_dev
    sectors = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[6]
    return int(sectors) * 512


def fill(box: Box, encounters: int, rng: random.Random) -> None:
    content, made = b"\xff\xd8\xff" + rng.randbytes(500), 0
    while made < encounters:
        records: list[tuple[Content, str, dict[str, str | None], bytes | None]] = []
        for _ in range(BATCH):
            subject_id = new_id()
            name = f"{rng.choice(NAMES)} {rng.choice(NAMES)} {rng.randrange(10_000)}"
            subject = SubjectContent(pseudonym=subject_id[:8], name=name, local_number=f"{made}/26", birth_year=1980)
            records.append((subject, subject_id, {}, None))
            for _ in range(VISITS_EACH):
                records.append((EncounterContent(reason="spot"), new_id(), {"subject_id": subject_id}, None))
                made += 1
        # One photo a batch: files cost the same however many there are.
        records.append((described(content), new_id(), {"encounter_id": records[-1][1]}, content))
        box.store.add_all(records, box.lead.user_id)


def measure_finding(box: Box, rng: random.Random) -> None:
    words = [f"{rng.choice(NAMES)} {rng.randrange(10_000)}" for _ in range(100)] + [
        "nobody at all",
        "Sipho",
        "1980",
        "",
    ]
    report("search", [timed(partial(box.store.find, word)) for word in words * 3])
    hits = [hit for name in NAMES for hit in box.store.find(name)]

    def open_one() -> None:
        hit = rng.choice(hits)
        box.store.get(SubjectContent, hit.subject_id)
        for seen in hit.visits:
            box.store.get(EncounterContent, seen.encounter_id)
            for image in box.store.of(CapturedImageContent, encounter_id=seen.encounter_id):
                box.store.photo(image)

    report("opening a subject with its visits", [timed(open_one) for _ in range(500)])


def measure_saving_during_a_backup(box: Box, stick: Path, rng: random.Random) -> None:
    stick.mkdir(exist_ok=True)
    done = threading.Event()

    def back_up() -> None:
        make_backup(box.store, stick)
        done.set()

    taken, thread = [], threading.Thread(target=back_up)
    thread.start()
    while not done.is_set():
        taken.append(timed(lambda: visit(box, f"{rng.random()}", size=PHOTO_BYTES)))
    thread.join()
    report(f"save of a visit with a photo of {PHOTO_BYTES / 1e6:.1f} MB during a backup", taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--encounters", type=int, default=50_000)
    parser.add_argument("--saves", type=int, default=300)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    wanted = parser.parse_args()
    rng = random.Random(wanted.seed)
    with tempfile.TemporaryDirectory(dir=wanted.folder) as name:
        folder = Path(name)
        measure_saving(new_box(folder / "saving"), wanted.saves, rng)
        measure_a_day(folder)
        box = new_box(folder / "finding")
        print(f"filled with {wanted.encounters} encounters in {timed(lambda: fill(box, wanted.encounters, rng)):.0f} s")
        print(f"database: {(box.folder / 'records.sqlite').stat().st_size / 1e6:.0f} MB")
        start = time.perf_counter()
        locked = box.reopen(is_unlocked=False)
        print(f"start: {time.perf_counter() - start:.2f} s")
        print(
            f"unlock by phrase, index of {wanted.encounters}: {timed(lambda: locked.store.unlock(box.phrase())):.2f} s"
        )
        measure_finding(locked, rng)
        (folder / "stick").mkdir()
        print(f"backup, read back: {timed(lambda: make_backup(locked.store, folder / 'stick')):.1f} s")
        measure_saving_during_a_backup(locked, folder / "stick", rng)
        print(f"audit verified: {timed(locked.store.verify_audit):.2f} s")
        locked.store.close()


if __name__ == "__main__":
    main()
