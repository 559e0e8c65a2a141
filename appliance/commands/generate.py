"""`dermstation generate`: one question to the model from the command line, streamed or as JSON.

Heavy modules are imported inside, so that `dermstation --help` and a wrong option answer at once.
"""

import json
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, get_args

import click

from appliance.config import Provider
from appliance.errors import ConfigurationError, ImageError

if TYPE_CHECKING:
    from appliance.medgemma.engine import MedGemma
    from appliance.medgemma.generation import Generation, GenerationOptions, Message, Piece

_EXIT_CANCELLED = 130  # 128 + SIGINT, as shells report it


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Model bundle; the demonstration bundle by default.")
@click.option("--image", "images", type=click.Path(path_type=Path), multiple=True, help="JPEG or PNG; may be repeated.")
@click.option("--prompt", help="The question. Without it, the assessment is asked for, as with --assess.")
@click.option("--assess", is_flag=True, help="Constrain the answer to the assessment's JSON schema.")
@click.option("--schema", type=click.Path(path_type=Path), help="Constrain the answer to the JSON schema in this file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with tokens and timings at the end.")
@click.option("--max-tokens", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--temperature", type=click.FloatRange(min=0), default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-k", type=click.IntRange(min=1))
@click.option("--top-p", type=click.FloatRange(min=0, max=1, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0))
@click.option("--stop", multiple=True, help="End the answer before this text; may be repeated.")
@click.option("--deadline", "deadline_s", type=click.FloatRange(min=0), help="End the run after so many seconds.")
@click.option("--allow-thought", is_flag=True, help="Let the model think first, even under a schema; never printed.")
@click.option("--context-length", type=click.IntRange(min=1), help="Tokens of prompt and answer together.")
@click.option("--threads", type=click.IntRange(min=1), help="Compute threads; one a core by default.")
@click.option(
    "--provider",
    type=click.Choice(get_args(Provider)),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
@click.pass_context
def generate(ctx: click.Context, /, bundle: Path | None, *, as_json: bool, **values: Any) -> None:
    """Ask the model one question, with pictures or without."""
    from appliance.demo import bundle_path
    from appliance.medgemma.engine import MedGemma, RuntimeOptions

    messages = _messages(values)
    options = _options(values)
    cancel = _cancel_on_interrupt()
    runtime = RuntimeOptions(
        threads=values["threads"], context_length=values["context_length"], provider=values["provider"]
    )
    with MedGemma.load(bundle or bundle_path(), runtime) as model:
        items = model.generate(messages, options, cancel=cancel)
        generation = _take_quietly(items) if as_json else _stream(items, model.bundle.manifest.warning)
        if as_json:
            click.echo(json.dumps(_report(generation, model), ensure_ascii=False))
    ctx.exit(_EXIT_CANCELLED if generation.finish_reason == "cancelled" else 0)


def _messages(values: Mapping[str, Any]) -> "list[Message]":
    from appliance.assessment import ASSESSMENT_PROMPT
    from appliance.medgemma.generation import ImagePart, Message, TextPart

    images = [ImagePart(content=_read_image(path)) for path in values["images"]]
    text = TextPart(text=ASSESSMENT_PROMPT if values["prompt"] is None else values["prompt"])
    return [Message(role="user", parts=(*images, text))]


def _options(values: Mapping[str, Any]) -> "GenerationOptions":
    from appliance.assessment import ASSESSMENT_SCHEMA
    from appliance.medgemma.generation import GenerationOptions

    schema: Mapping[str, Any] | None = None
    if values["schema"] is not None:
        schema = _read_schema(values["schema"])
    elif values["assess"] or values["prompt"] is None:
        schema = ASSESSMENT_SCHEMA
    return GenerationOptions(
        max_tokens=values["max_tokens"],
        temperature=values["temperature"],
        top_k=values["top_k"],
        top_p=values["top_p"],
        seed=values["seed"],
        stop=values["stop"],
        json_schema=schema,
        ban_thought=False if values["allow_thought"] else None,
        deadline_s=values["deadline_s"],
    )


def _read_image(path: Path) -> bytes:
    from appliance.imaging.decode import MAX_BYTES

    try:
        with path.open("rb") as file:
            # One byte more than is allowed, so that a larger file is told from one that fits.
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ImageError(f"The image {path} cannot be read: {error.strerror}.") from error


def _read_schema(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"The JSON schema {path} cannot be read: {error}.") from error
    if not isinstance(schema, dict):
        raise ConfigurationError(f"The JSON schema {path} is not an object.")
    return schema


def _cancel_on_interrupt() -> threading.Event:
    """Let the first Ctrl-C end the run cleanly and the second one kill it."""
    cancel = threading.Event()

    def on_interrupt(_signal: int, _frame: FrameType | None) -> None:
        cancel.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, on_interrupt)
    return cancel


def _stream(items: "Iterator[Piece | Generation]", warning: str | None) -> "Generation":
    from appliance.medgemma.generation import Generation

    for item in items:
        if warning is not None:
            click.echo(warning, err=True)
            warning = None
        if isinstance(item, Generation):
            click.echo()
            if item.finish_reason != "stop":
                click.echo(f"dermstation: the answer is cut short ({item.finish_reason}).", err=True)
            return item
        click.echo(_printable(item.text), nl=False)
        sys.stdout.flush()
    raise RuntimeError("the engine gave no generation")


def _take_quietly(items: "Iterator[Piece | Generation]") -> "Generation":
    from appliance.medgemma.generation import Generation

    return next(item for item in items if isinstance(item, Generation))


def _printable(text: str) -> str:
    """Keep model text from steering a terminal: on one, control characters but line feed and tab become U+FFFD."""
    if not sys.stdout.isatty():
        return text
    return "".join(c if c in "\n\t" or c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _report(generation: "Generation", model: "MedGemma") -> dict[str, Any]:
    from appliance.benchmark.machine import peak_rss_bytes

    timings = generation.timings
    return {
        "text": generation.text,
        "thought": generation.thought,
        "prompt_token_ids": generation.prompt_token_ids,
        "token_ids": generation.token_ids,
        "finish_reason": generation.finish_reason,
        "timings": {
            "load_s": timings.load_s,
            "vision_s": timings.vision_s,
            "prefill_s": timings.prefill_s,
            "decode_s": timings.decode_s,
            "prompt_tokens": timings.prompt_tokens,
            "generated_tokens": timings.generated_tokens,
            "prefill_tokens_per_s": timings.prefill_tokens_per_s,
            "decode_tokens_per_s": timings.decode_tokens_per_s,
        },
        "peak_rss_bytes": peak_rss_bytes(),
        "model": {"name": model.bundle.manifest.name, "sha256": model.bundle.sha256, "providers": model.providers},
        "warning": model.bundle.manifest.warning,
    }
