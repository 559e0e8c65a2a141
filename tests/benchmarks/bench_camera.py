"""How fast a camera's frames reach the kiosk's page, and how long a photo takes: 1080p MJPEG, 30 frames/s, on loopback.

Twice: with frames only and photos in memory; then as in a clinic, with the live measures in their own process, the gate
at the shutter, and photos saved: sealed, fsynced and read back in real records below the present folder.

The driver is the tests' own (`fake_v4l2`), so that this can be measured without a camera: exposure, USB, uvcvideo and
the browser's drawing are not in the figures. The rest is real: the camera's thread, the service, the HTTP server, and
an HTTP client in the same process. Prints one line a figure.
"""

import http.client
import io
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from degraded_photos import photo
from fake_v4l2 import FakeCamera, kernel_with
from records_boxes import new_box

from appliance.camera.reader import CameraOptions
from appliance.camera.selection import CameraSet
from appliance.camera.v4l2 import V4l2Camera
from appliance.config import QualityConfig
from appliance.engine_address import EngineAddress
from appliance.engine_client import EngineClient
from appliance.errors import DermstationError
from appliance.service.capture_store import CaptureStore
from appliance.service.live_quality import LiveQuality
from appliance.service.record_captures import RecordCaptureStore
from appliance.service.station import Station
from web.kiosk.app import MAX_BODY_BYTES, create_kiosk_app
from web.listening import tcp_listener
from web.serve import THREADS
from web.server import HttpServer

SIZE = (1920, 1080)
FRAMES_PER_S = 30
PREVIEW_S = 10.0
PHOTOS = 50


def pictures(count: int) -> list[bytes]:
    """Show the tests' real photo of skin with a sensor's noise."""
    generator, drawn = np.random.default_rng(0), []
    skin = np.asarray(photo().crop((0, 100, 1500, 944)).resize(SIZE, Image.Resampling.LANCZOS), np.float32)
    for _ in range(count):
        pixels = np.clip(skin + generator.normal(0, 3, skin.shape), 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        drawn.append(buffer.getvalue())
    return drawn


def send(device: FakeCamera, frames: list[bytes], stop: threading.Event) -> None:
    """Be the camera."""
    number, due_s = 0, time.monotonic()
    while not stop.is_set():
        device.send(frames[number % len(frames)])
        number, due_s = number + 1, due_s + 1 / FRAMES_PER_S
        stop.wait(max(0.0, due_s - time.monotonic()))


def watch(port: int) -> tuple[float, list[float]]:
    """Ask for frame after frame as the page does; return frames/s and each one's age in ms when its last byte came."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    after, ages, began_s = -1, [], time.monotonic()
    while time.monotonic() - began_s < PREVIEW_S:
        asked_s = time.monotonic()
        connection.request("GET", f"/preview?after={after}")
        response = connection.getresponse()
        head_s = time.monotonic()
        response.read()
        if response.status == 200:
            after = int(response.headers["X-Frame-Sequence"])
            ages.append(int(response.headers["X-Captured-Age-Ms"]) + (time.monotonic() - head_s) * 1000)
        elif asked_s - began_s > 2:
            sys.exit("the camera gives no frames")
        else:
            time.sleep(0.1)
    return len(ages) / (time.monotonic() - began_s), ages


def main() -> None:
    frames = pictures(12)
    mean_bytes = statistics.mean(map(len, frames))
    sys.stdout.write(f"frames: {SIZE[0]} x {SIZE[1]}, {mean_bytes / 1e3:.0f} kB, sent at {FRAMES_PER_S}/s\n")
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory(dir=".") as disk:
        sys.stdout.write("frames only, photos in memory\n")
        run(frames, Path(folder), None, None)
        box = new_box(Path(disk) / "records")
        store = RecordCaptureStore(lambda: box.store, lambda: box.lead.user_id)
        sys.stdout.write("live measures, gate, photos saved in the records\n")
        run(frames, Path(folder), store, LiveQuality(QualityConfig()))
        box.store.close()


def run(frames: list[bytes], folder: Path, store: CaptureStore | None, quality: LiveQuality | None) -> None:
    """Measure one station."""
    stop = threading.Event()
    device = FakeCamera(folder, f"Bench{quality is not None}", {"MJPG": [SIZE]})
    engine = EngineClient(EngineAddress(socket=str(folder / "nobody.sock")))
    makers = {"overview": lambda press: V4l2Camera(lambda: device.link, CameraOptions(wanted=SIZE), on_press=press)}
    with (
        kernel_with([device], pytest.MonkeyPatch()),
        Station(CameraSet(makers), engine, store=store, quality=quality) as station,  # type: ignore[arg-type] # a lambda
    ):
        threading.Thread(target=send, args=(device, frames, stop), daemon=True).start()
        listener = tcp_listener("127.0.0.1", 0)
        server = HttpServer(create_kiosk_app(station), listener, threads=THREADS, max_body_bytes=MAX_BODY_BYTES)
        threading.Thread(target=server.run, daemon=True).start()
        measure(station, listener.getsockname()[1])
        stop.set()
        server.stop()


def measure(station: Station, port: int) -> None:
    """Print the figures."""
    watch(port)  # what starts with the first frame has started
    quality = station.quality
    began, began_s = os.times(), time.monotonic()
    began_decoding_s = decoding_s(quality)
    rate, ages = watch(port)
    ended, share = os.times(), time.monotonic() - began_s
    cpu = (ended.user + ended.system - began.user - began.system) / share
    sys.stdout.write(f"  preview: {rate:.1f} frames/s, camera to page median {statistics.median(ages):.0f} ms, ")
    sys.stdout.write(f"95 % {statistics.quantiles(ages, n=20)[-1]:.0f} ms\n")
    sys.stdout.write(f"  CPU: {cpu:.2f} of one core for camera, service, server and client together")
    sys.stdout.write(f", {(decoding_s(quality) - began_decoding_s) / share:.2f} for the measures\n")
    encounter = station.open_encounter()
    time.sleep(0.2)
    watching = threading.Thread(target=watch, args=(port,), daemon=True)
    watching.start()  # as on the screen: the live picture goes on between presses
    times: list[float] = []
    refused = 0
    while watching.is_alive() and len(times) < PHOTOS:
        pressed_s = time.monotonic()
        try:
            station.capture(encounter.encounter_id)
        except DermstationError:
            refused += 1
            continue
        times.append((time.monotonic() - pressed_s) * 1000)
    watching.join()
    sys.stdout.write(f"  photo: {len(times)}, shutter to kept median {statistics.median(times):.0f} ms, ")
    sys.stdout.write(f"95 % {statistics.quantiles(times, n=20)[-1]:.0f} ms, longest {max(times):.0f} ms; ")
    sys.stdout.write(f"{refused} refused\n")


def decoding_s(quality: LiveQuality | None) -> float:
    """Return the processor time of the process that measures, in seconds."""
    pid = quality._sandbox.pid if quality is not None else None
    if pid is None:
        return 0.0
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
