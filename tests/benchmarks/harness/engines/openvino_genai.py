"""OpenVINO GenAI's pipeline for pictures and text, as its users drive it: one call from photo to answer.

A photo is encoded inside that call, so its time is taken from the pipeline's own metrics. Prefixes are kept by default;
no two samples begin alike, so nothing is read twice. Tokens of a schema are chosen by its xgrammar.
Source: openvino_genai's Python interface, the version in peers/requirements-openvino.txt.
"""

import importlib
import io
import json
import queue
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from harness.engine import Order

# Its import would look up its makers' server; an import of nothing fails, and it goes on without.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type] # None: an import of it fails
# By name: the package is in the peer's environment, not in the one whose types are checked.
genai: Final[Any] = importlib.import_module("openvino_genai")
openvino: Final[Any] = importlib.import_module("openvino")
LANGUAGE_MODEL: Final = "openvino_language_model.bin"
PHOTO_TAG: Final = "<start_of_image>"


class OpenvinoGenai:
    """A folder that optimum-intel exported."""

    def __init__(self, folder: Path, threads: int) -> None:
        self._folder = folder
        self._pipeline = genai.VLMPipeline(str(folder), "CPU", INFERENCE_NUM_THREADS=threads)
        self._photo: Any = None
        self.prompt_tokens = 0
        self.constraint_s = 0.0
        self.late_image_s = 0.0

    def facts(self) -> dict[str, Any]:
        """Name the library and the files."""
        return {
            "version": f"openvino-genai {genai.__version__}",
            "model": self._folder.name,
            "weight_bytes": (self._folder / LANGUAGE_MODEL).stat().st_size,
            "disk_bytes": sum(file.stat().st_size for file in self._folder.iterdir()),
        }

    def settle(self) -> None:
        """Do nothing: it answers once it is loaded."""

    def encode(self, photo: bytes) -> None:
        """Decode a photo; the pipeline encodes it when it has the question."""
        with Image.open(io.BytesIO(photo)) as image:
            self._photo = openvino.Tensor(np.asarray(image.convert("RGB"))[np.newaxis])

    def read_ahead(self) -> None:
        """Do nothing: the pipeline reads the prompt when it has the question."""

    def stream(self, order: Order) -> Iterator[int]:
        """Yield the tokens of a greedy answer."""
        tokens: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        failures: list[BaseException] = []
        thread = threading.Thread(target=self._generate, args=(order, tokens, failures), name="generate")
        thread.start()
        yield from iter(tokens.get, None)
        thread.join()
        if failures:
            raise failures[0]

    def _generate(self, order: Order, tokens: "queue.SimpleQueue[int | None]", failures: list[BaseException]) -> None:
        """Run the pipeline, which returns when the answer is whole; tokens come meanwhile."""
        config = genai.GenerationConfig(
            max_new_tokens=order.tokens, ignore_eos=True, do_sample=False, apply_chat_template=False
        )
        if order.schema is not None:
            config.structured_output_config = genai.StructuredOutputConfig(json_schema=json.dumps(order.schema))
        photos = [] if order.photo is None else [self._photo]
        prompt = f"<start_of_turn>user\n{PHOTO_TAG * len(photos)}{order.prompt}<end_of_turn>\n<start_of_turn>model\n"
        try:
            answer = self._pipeline.generate(
                prompt, images=photos, generation_config=config, streamer=_streamer(tokens)
            )
            self.prompt_tokens = answer.perf_metrics.get_num_input_tokens()
            encoding = answer.perf_metrics.get_vision_encoding_duration() if photos else None
            self.late_image_s = 0.0 if encoding is None else encoding.mean / 1000
        except Exception as error:  # noqa: BLE001 - told by `stream`, on the thread that asked
            failures.append(error)
        finally:
            tokens.put(None)


def _streamer(tokens: "queue.SimpleQueue[int | None]") -> Any:
    class Streamer(genai.StreamerBase):  # type: ignore[misc] # the base is in the peer's environment
        def write(self, token: int | Sequence[int]) -> Any:
            for one in token if isinstance(token, Sequence) else [token]:
                tokens.put(one)
            return genai.StreamingStatus.RUNNING

        def end(self) -> None:
            pass

    return Streamer()


def load(*, folder: str, threads: int) -> OpenvinoGenai:
    """Open an exported folder."""
    return OpenvinoGenai(Path(folder), threads)
