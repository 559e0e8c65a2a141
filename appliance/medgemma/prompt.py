"""Messages to prompt tokens, through the bundle's chat template.

What people type can never become a control token. Before rendering, every control string in the template's *own source*
is replaced by a mark of characters that occur nowhere else; after rendering, only marks are control tokens, and what
spells one in a message is text. The template still sees the messages as they are, so that trimming works as ever.
Source: Hugging Face `utils/chat_template_utils.py` (environment), `Gemma3Processor` (how an image is written out).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final, Literal

from jinja2 import TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.errors import BundleError, PromptError
from appliance.medgemma.attention import image_blocks, image_spans
from appliance.medgemma.generation import ImagePart, Message, TextPart
from appliance.medgemma.spec import GemmaSpec
from appliance.medgemma.tokenizer import Tokenizer

_PRIVATE_USE: Final = range(0xE000, 0xF900)
"""Unicode's private use area: no template and hardly any text uses it. Source: Unicode 16.0, section 23.5."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prompt:
    """A prompt, ready to be embedded."""

    token_ids: tuple[int, ...]
    image_spans: tuple[tuple[int, int], ...]
    """Half-open span of each image's soft tokens, in order."""
    images: tuple[ImagePart, ...]
    """The photos that belong there; as many as spans."""

    def until_last_image(self) -> "Prompt":
        """Return the prompt as far as its last image; nothing of one without images."""
        end = self.image_spans[-1][1] if self.image_spans else 0
        return replace(self, token_ids=self.token_ids[:end])


class PromptBuilder:
    """Builds prompts for one bundle."""

    def __init__(self, chat_template: str, tokenizer: Tokenizer, spec: GemmaSpec) -> None:
        self._chat_template = chat_template
        self._tokenizer = tokenizer
        self._spec = spec
        self._environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )
        # Hugging Face's tojson: Jinja's own escapes HTML, which would change the prompt.
        self._environment.filters["tojson"] = partial(json.dumps, ensure_ascii=False)
        self._environment.globals["raise_exception"] = _raise_exception
        # Gemma has 6,251 control tokens: looked up by ordinal and by id, never searched.
        self._strings = tuple(tokenizer.control_ids)
        self._ordinals = {string: ordinal for ordinal, string in enumerate(self._strings)}
        self._string_of = {token_id: string for string, token_id in tokenizer.control_ids.items()}

    def build(self, messages: Sequence[Message]) -> Prompt:
        """Render and tokenize a conversation, ready for the model's turn.

        Raises:
            PromptError: The template refuses the conversation, or the model takes no images and there is one.
            BundleError: The template is not one that can be rendered.
        """
        images = tuple(part for message in messages for part in message.parts if isinstance(part, ImagePart))
        if images and self._spec.vision is None:
            raise PromptError("This model takes text only, and the prompt has an image.")
        mark = _unused_character(self._chat_template, messages)
        rendered = self._write_out_images(self._render(messages, mark), mark, len(images))
        token_ids = self._tokenize(rendered, mark)
        spans = image_spans(image_blocks(token_ids, self._spec.tokens.image_token_id))
        return Prompt(token_ids=tuple(token_ids), image_spans=tuple(spans), images=images)

    def _render(self, messages: Sequence[Message], mark: str) -> str:
        """Return the conversation as the template writes it, its control tokens as marks."""
        source = self._tokenizer.control_pattern.sub(lambda match: self._mark(match.group(), mark), self._chat_template)
        names = {"bos_token": self._spec.tokens.bos_token_id, "pad_token": self._spec.tokens.pad_token_id}
        names["eos_token"] = self._spec.tokens.eos_token_ids[0]
        variables = {name: self._mark(self._string_of[token_id], mark) for name, token_id in names.items()}
        try:
            template = self._environment.from_string(source)
            return template.render(
                messages=[_template_message(message) for message in messages], add_generation_prompt=True, **variables
            )
        except PromptError:
            raise
        except TemplateError as error:
            raise BundleError(f"The bundle's chat template cannot be rendered: {error}.") from error
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            raise PromptError(f"The chat template cannot render this conversation: {error}.") from error

    def _write_out_images(self, rendered: str, mark: str, image_count: int) -> str:
        r"""Write each image as \n\n, begin, soft tokens, end, \n\n.

        Source: `Gemma3Processor.full_image_sequence`.
        """
        tokens = self._spec.tokens
        if self._spec.vision is None or tokens.boi_token_id is None:
            return rendered
        begin, soft, end = (
            self._mark(self._string_of[token_id], mark)
            for token_id in (tokens.boi_token_id, tokens.image_token_id, tokens.eoi_token_id)
            if token_id is not None
        )
        if rendered.count(begin) != image_count:
            raise PromptError(
                f"The chat template writes {rendered.count(begin)} images where the conversation has {image_count}."
            )
        return rendered.replace(begin, f"\n\n{begin}{soft * self._spec.vision.mm_tokens_per_image}{end}\n\n")

    def _tokenize(self, rendered: str, mark: str) -> list[int]:
        """Return the ids of a rendered prompt whose control tokens are marks."""
        # Split with a group: text at even places, the ordinal of a control string at odd ones.
        pieces = re.split(f"{mark}([0-9]+){mark}", rendered)
        texts = pieces[0::2]
        controls = [self._strings[int(ordinal)] for ordinal in pieces[1::2]]
        plain = texts[0] + "".join(control + text for control, text in zip(controls, texts[1:], strict=True))
        if self._tokenizer.control_pattern.findall(plain) == controls and _is_free_of(self._tokenizer, texts):
            # Nothing in the messages spells a control token: exactly what Hugging Face encodes, in one go.
            return self._tokenizer.encode(plain)
        token_ids = self._tokenizer.encode_text(texts[0])
        for control, text in zip(controls, texts[1:], strict=True):
            token_ids.append(self._tokenizer.control_ids[control])
            token_ids += self._tokenizer.encode_text(text)
        return token_ids

    def _mark(self, string: str, mark: str) -> str:
        return f"{mark}{self._ordinals[string]}{mark}"


def _is_free_of(tokenizer: Tokenizer, texts: Sequence[str]) -> bool:
    return not any(tokenizer.control_pattern.search(text) for text in texts)


def _template_message(message: Message) -> dict[str, Any]:
    """Return a message as chat templates know it: one text as a string, anything else as a list of parts."""
    if message.role == "system":
        # Gemma's template folds in the first part only; a system turn is text anyway.
        return {"role": "system", "content": _system_text(message)}
    if len(message.parts) == 1 and isinstance(message.parts[0], TextPart):
        return {"role": message.role, "content": message.parts[0].text}
    return {"role": message.role, "content": [_template_part(part) for part in message.parts]}


def _system_text(message: Message) -> str:
    texts = [part.text for part in message.parts if isinstance(part, TextPart)]
    if len(texts) != len(message.parts):
        raise PromptError("A system message takes text only, and this one has an image.")
    return "\n".join(texts)


def _template_part(part: TextPart | ImagePart) -> dict[Literal["type", "text"], str]:
    if isinstance(part, ImagePart):
        return {"type": "image"}
    return {"type": "text", "text": part.text}


def _unused_character(chat_template: str, messages: Sequence[Message]) -> str:
    used = set(chat_template)
    for message in messages:
        for part in message.parts:
            if isinstance(part, TextPart):
                used.update(part.text)
    character = next((chr(code) for code in _PRIVATE_USE if chr(code) not in used), None)
    if character is None:
        raise PromptError("The text uses every character of Unicode's private use area.")
    return character


def _raise_exception(message: str) -> None:
    """Let a template refuse a conversation, as Hugging Face's `raise_exception` does."""
    raise PromptError(f"The chat template refuses the conversation: {message.rstrip('.')}.")
