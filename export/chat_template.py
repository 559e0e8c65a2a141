"""The chat template: the checkpoint's own, wherever its generation keeps it, otherwise Gemma 3's.

Source: transformers 5.23 `processing_utils.py` for the places; the Gemma 3 model card for the turns.
"""

from pathlib import Path
from typing import Any, Final

from export.checkpoint import read_json
from export.errors import CheckpointError

GEMMA_3: Final = """\
{{ bos_token }}
{%- set ns = namespace(prefix='') -%}
{%- if messages and messages[0]['role'] == 'system' -%}
    {%- set system = messages[0]['content'] -%}
    {%- set ns.prefix = (system if system is string else system[0]['text']) + '\\n\\n' -%}
    {%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
        {{ raise_exception('Turns must alternate between user and assistant.') }}
    {%- endif -%}
    {{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\\n' }}
    {{- ns.prefix if loop.first else '' -}}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- else -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}
                {{ '<start_of_image>' }}
            {%- elif item['type'] == 'text' -%}
                {{ item['text'] | trim }}
            {%- endif -%}
        {%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{ '<start_of_turn>model\\n' }}
{%- endif -%}
"""
"""Gemma 3's turns, for a checkpoint that brings no template; written for this project."""


def read_chat_template(folder: Path) -> str:
    """Find the checkpoint's template.

    Raises:
        CheckpointError: A file that should hold it is damaged.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{jinja} cannot be read: {error}.") from error
    for file in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        template = _default(read_json(folder / file) or {})
        if template:
            return template
    return GEMMA_3


def _default(content: dict[str, Any]) -> str | None:
    """Return the template; of several named ones, the one called `default`."""
    template = content.get("chat_template")
    if isinstance(template, list):
        named = {one.get("name"): one.get("template") for one in template if isinstance(one, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
