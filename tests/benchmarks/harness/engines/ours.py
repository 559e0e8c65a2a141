"""This project, through the interface that the station's engine process uses."""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from appliance.benchmark.model import weight_bytes_per_token
from appliance.medgemma.engine import MedGemma, RuntimeOptions
from appliance.medgemma.generation import Generation, GenerationOptions, ImagePart, Message, Piece, TextPart
from harness.engine import Order


class Ours:
    """A bundle in `MedGemma`."""

    def __init__(self, bundle: Path, threads: int, context_length: int) -> None:
        self._model = MedGemma.load(bundle, RuntimeOptions(threads=threads, context_length=context_length))
        self._photo: bytes | None = None
        self.prompt_tokens = 0
        self.constraint_s = 0.0
        self.late_image_s = 0.0

    def facts(self) -> dict[str, Any]:
        """Name the bundle, the runtime and the files."""
        bundle = self._model.bundle
        openvino = f", openvino {version('openvino')}" if self._model.plan.tower == "openvino" else ""
        return {
            "version": f"onnxruntime {version('onnxruntime')}{openvino}",
            "model": f"{bundle.manifest.name} {bundle.sha256[:12]}",
            "weight_bytes": weight_bytes_per_token(bundle),
            "disk_bytes": sum(record.size_bytes for record in bundle.manifest.files.values()),
            "providers": list(self._model.providers),
        }

    def settle(self) -> None:
        """Read the vocabulary for schemas and test itself, as the engine process does while questions wait."""
        self._model.prepare()
        self._model.self_test()

    def encode(self, photo: bytes) -> None:
        """Encode a photo; the model keeps its features."""
        self._photo = photo
        self._model.encode_image(photo)

    def read_ahead(self) -> None:
        """Read the prompt up to the photo, as the engine process does when a photo is taken."""
        if self._photo is not None:
            self._model.read_ahead([Message(role="user", parts=(ImagePart(content=self._photo),))])

    def stream(self, order: Order) -> Iterator[int]:
        """Yield the tokens of a greedy answer."""
        text = TextPart(text=order.prompt)
        parts = (text,) if order.photo is None or self._photo is None else (ImagePart(content=self._photo), text)
        options = GenerationOptions(max_tokens=order.tokens, json_schema=order.schema)
        for item in self._model.generate([Message(role="user", parts=parts)], options):
            if isinstance(item, Piece):
                yield from item.token_ids
            elif isinstance(item, Generation):
                self.prompt_tokens = item.timings.prompt_tokens


def load(*, bundle: str, threads: int, context_length: int) -> Ours:
    """Open a bundle."""
    return Ours(Path(bundle), threads, context_length)
