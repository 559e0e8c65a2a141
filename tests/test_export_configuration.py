"""Configurations of both generations become the numbers that transformers reads from them; the rest is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
from checkpoints import make_checkpoint

from appliance.medgemma.spec import TextSpec
from export.chat_template import GEMMA_3, read_chat_template
from export.configuration import read_configuration, text_spec, vision_spec
from export.errors import CheckpointError, UnsupportedCheckpointError
from export.preprocessing import read_preprocessing
from export.tokens import check_ids, token_spec

MEDGEMMA: dict[str, Any] = {
    "architectures": ["Gemma3ForConditionalGeneration"],
    "boi_token_index": 255999,
    "eoi_token_index": 256000,
    "eos_token_id": [1, 106],
    "image_token_index": 262144,
    "mm_tokens_per_image": 256,
    "model_type": "gemma3",
    "text_config": {
        "hidden_size": 2560,
        "intermediate_size": 10240,
        "model_type": "gemma3_text",
        "num_hidden_layers": 34,
        "rope_scaling": {"factor": 8.0, "rope_type": "linear"},
        "sliding_window": 1024,
    },
    "vision_config": {
        "hidden_size": 1152,
        "image_size": 896,
        "intermediate_size": 4304,
        "model_type": "siglip_vision_model",
        "num_attention_heads": 16,
        "num_hidden_layers": 27,
        "patch_size": 14,
        "vision_use_head": False,
    },
}
"""Keys as the published 4B files have them."""


def with_text(**keys: Any) -> dict[str, Any]:
    return {**MEDGEMMA, "text_config": {**MEDGEMMA["text_config"], **keys}}


def with_vision(**keys: Any) -> dict[str, Any]:
    return {**MEDGEMMA, "vision_config": {**MEDGEMMA["vision_config"], **keys}}


def reference_spec(configuration: dict[str, Any]) -> dict[str, Any]:
    """What transformers makes of a configuration, under the names of `TextSpec`."""
    from transformers import Gemma3Config

    text = Gemma3Config(**configuration).text_config
    full, sliding = (text.rope_parameters[kind] for kind in ("full_attention", "sliding_attention"))
    same = set(TextSpec.__struct_fields__) - {"rope_theta", "rope_scaling_factor", "rope_local_base_freq"}
    return {name: getattr(text, name) for name in same} | {
        "layer_types": tuple(text.layer_types),
        "rope_theta": full["rope_theta"],
        "rope_scaling_factor": full.get("factor", 1.0),
        "rope_local_base_freq": sliding["rope_theta"],
    }


@pytest.mark.parametrize(
    "configuration",
    [
        MEDGEMMA,
        with_text(
            rope_theta=5e5, rope_local_base_freq=2e4, sliding_window_pattern=3, num_key_value_heads=1, head_dim=128
        ),
        with_text(rope_scaling=None, layer_types=["full_attention"] * 34),
        with_text(
            rope_scaling=None,
            rope_parameters={
                "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 3e5},
                "sliding_attention": {"rope_type": "default", "rope_theta": 7e3},
            },
        ),
        {**MEDGEMMA, "text_config": {}},
    ],
    ids=["published", "old keys", "all full", "new keys", "defaults"],
)
def test_text_configuration_is_read_as_transformers_reads_it(configuration: dict[str, Any]) -> None:
    spec = text_spec(configuration)

    assert {name: getattr(spec, name) for name in TextSpec.__struct_fields__} == reference_spec(configuration)


def test_published_shape_is_the_published_one() -> None:
    spec, vision = text_spec(MEDGEMMA), vision_spec(MEDGEMMA)

    assert [layer for layer, kind in enumerate(spec.layer_types) if kind == "full_attention"] == [5, 11, 17, 23, 29]
    assert (spec.vocab_size, spec.head_dim, spec.num_attention_heads, spec.num_key_value_heads) == (262_208, 256, 8, 4)
    assert vision is not None
    assert (vision.patches_per_side, vision.tokens_per_side) == (64, 16)


def test_window_may_be_missing_where_no_layer_slides() -> None:
    spec = text_spec(with_text(layer_types=["full_attention"] * 34, sliding_window=None))

    assert spec.sliding_window == spec.max_position_embeddings


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (with_text(attn_logit_softcapping=50.0), "text_config.attn_logit_softcapping is 50.0"),
        (with_text(final_logit_softcapping=30.0), "text_config.final_logit_softcapping is 30.0"),
        (with_text(attention_bias=True), "text_config.attention_bias is true"),
        (with_text(hidden_activation="silu"), 'text_config.hidden_activation is "silu"'),
        (with_text(use_bidirectional_attention=True), "use_bidirectional_attention"),
        (with_text(rope_scaling={"rope_type": "yarn", "factor": 4.0}), 'rope_type of full_attention is "yarn"'),
        (with_text(rope_parameters={"rope_type": "default", "rope_theta": 1e4}), "rope_parameters"),
        (
            with_text(rope_parameters={"sliding_attention": {"rope_type": "linear", "factor": 2.0}}),
            "rope_parameters.sliding_attention is scaled",
        ),
        (with_text(layer_types=["chunked_attention"] * 34), 'layer_types holds "chunked_attention"'),
        (with_text(layer_types=["full_attention"]), "layer_types must list 34 layers"),
        (with_text(head_dim=100), "head_dim is 100"),
        (with_text(num_key_value_heads=3), "not a multiple of num_key_value_heads"),
        (with_text(hidden_size=-1), "hidden_size is -1"),
        (with_text(hidden_size="2560"), "hidden_size is"),
        (with_text(sliding_window=None), "sliding_window is null"),
    ],
)
def test_what_the_decoder_cannot_do_is_refused_by_key(configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        text_spec(configuration)


@pytest.mark.parametrize(
    ("configuration", "message"),
    [
        (with_vision(hidden_act="quick_gelu"), "vision_config.hidden_act"),
        (with_vision(model_type="clip_vision_model"), "vision_config.model_type"),
        (with_vision(num_channels=1), "vision_config.num_channels"),
        (with_vision(num_attention_heads=7), "not a multiple of its 7 heads"),
        ({**MEDGEMMA, "mm_tokens_per_image": 200}, "cannot be pooled"),
        ({**MEDGEMMA, "vision_config": None}, "no vision_config"),
    ],
)
def test_what_the_tower_cannot_do_is_refused_by_key(configuration: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        vision_spec(configuration)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"architectures": ["LlamaForCausalLM"]}', "architecture LlamaForCausalLM is not supported"),
        ('{"model_type": "gemma2"}', "architecture gemma2 is not supported"),
        ('{"model_type": "gemma3", "quantization_config": {"bits": 4}}', "quantized already"),
        ("[1]", "not a JSON object"),
        ("{", "not valid JSON"),
        (None, "has no config.json"),
    ],
)
def test_other_architectures_are_refused(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)

    with pytest.raises(CheckpointError, match=message):
        read_configuration(tmp_path)


def change(folder: Path, file: str, **keys: Any) -> dict[str, Any]:
    content = {**json.loads((folder / file).read_text()), **keys}
    (folder / file).write_text(json.dumps(content))
    return content


def test_tokens_are_looked_up_by_string(tmp_path: Path) -> None:
    make_checkpoint(tmp_path)

    tokens = token_spec(tmp_path, read_configuration(tmp_path), multimodal=True)

    assert (tokens.bos_token_id, tokens.pad_token_id, tokens.eos_token_ids) == (2, 0, (1, 6))
    assert (tokens.boi_token_id, tokens.eoi_token_id, tokens.image_token_id) == (7, 8, 398)
    assert (tokens.thought_start_token_id, tokens.thought_end_token_id) == (9, 10)


def test_token_id_that_the_tokenizer_denies_is_refused(tmp_path: Path) -> None:
    configuration = change(make_checkpoint(tmp_path), "config.json", boi_token_index=12)

    with pytest.raises(CheckpointError, match=r"boi_token_index is 12, .* gives <start_of_image> the id 7"):
        token_spec(tmp_path, configuration, multimodal=True)


def test_ids_that_transformers_fills_in_do_not_contradict_the_tokenizer(tmp_path: Path) -> None:
    configuration = change(make_checkpoint(tmp_path), "config.json", bos_token_id=0, pad_token_id=0)

    with pytest.raises(CheckpointError, match=r"bos_token_id is 0, but .* gives <bos> the id 2"):
        token_spec(tmp_path, configuration, multimodal=True)

    tokenizer = (
        (tmp_path / "tokenizer.json").read_text().replace('"<bos>"', '"<was-bos>"').replace('"<mask>"', '"<bos>"')
    )
    (tmp_path / "tokenizer.json").write_text(tokenizer)
    configuration = change(tmp_path, "config.json", bos_token_id=2)
    assert token_spec(tmp_path, configuration, multimodal=True).bos_token_id == 4


def test_tokenizer_without_image_tokens_is_refused(tmp_path: Path) -> None:
    make_checkpoint(tmp_path, vision=False)

    with pytest.raises(CheckpointError, match="no token <image_soft_token>"):
        token_spec(tmp_path, {}, multimodal=True)


@pytest.mark.parametrize("vocab_size", [7, 2, 398])
def test_every_token_needs_a_row_but_the_image_s(tmp_path: Path, vocab_size: int) -> None:
    make_checkpoint(tmp_path)
    tokens = token_spec(tmp_path, read_configuration(tmp_path), multimodal=True)

    if vocab_size == tokens.image_token_id:
        check_ids(tokens, vocab_size)
    else:
        with pytest.raises(CheckpointError, match=f"but vocab_size is {vocab_size}"):
            check_ids(tokens, vocab_size)


def test_missing_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no tokenizer\.json"):
        token_spec(tmp_path, MEDGEMMA, multimodal=False)


def test_template_is_found_wherever_it_is_kept(tmp_path: Path) -> None:
    assert read_chat_template(tmp_path) == GEMMA_3
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": [{"name": "default", "template": "a"}]}')
    assert read_chat_template(tmp_path) == "a"
    (tmp_path / "chat_template.json").write_text('{"chat_template": "b"}')
    assert read_chat_template(tmp_path) == "b"
    (tmp_path / "chat_template.jinja").write_text("c")
    assert read_chat_template(tmp_path) == "c"


def test_own_template_writes_gemma_s_turns() -> None:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    picture = [{"type": "text", "text": "What is this? "}, {"type": "image"}]
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": picture},
        {"role": "assistant", "content": " A mole. "},
        {"role": "user", "content": "Sure?"},
    ]
    template = ImmutableSandboxedEnvironment().from_string(GEMMA_3)

    text = template.render(messages=messages, bos_token="<bos>", add_generation_prompt=True)

    assert text == (
        "<bos><start_of_turn>user\nBe brief.\n\nWhat is this?<start_of_image><end_of_turn>\n"
        "<start_of_turn>model\nA mole.<end_of_turn>\n<start_of_turn>user\nSure?<end_of_turn>\n<start_of_turn>model\n"
    )


@pytest.mark.parametrize(("style", "file"), [("hub", "preprocessor_config.json"), ("new", "processor_config.json")])
def test_preprocessing_is_found_in_both_generations(tmp_path: Path, style: Any, file: str) -> None:
    make_checkpoint(tmp_path, style=style)
    content = json.loads((tmp_path / file).read_text())
    content.get("image_processor", content)["image_mean"] = [0.1, 0.2, 0.3]
    (tmp_path / file).write_text(json.dumps(content))

    assert read_preprocessing(tmp_path, vision_spec(read_configuration(tmp_path))).image_mean == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"resample": 3}, "resample is 3"),
        ({"do_normalize": False}, "do_normalize is false"),
        ({"size": {"height": 224, "width": 224}}, r"size\.height is 224"),
        ({"image_std": [0.5]}, "must be three numbers"),
    ],
)
def test_preprocessing_that_the_box_does_not_do_is_refused(tmp_path: Path, keys: Any, message: str) -> None:
    change(make_checkpoint(tmp_path), "preprocessor_config.json", **keys)

    with pytest.raises((CheckpointError, UnsupportedCheckpointError), match=message):
        read_preprocessing(tmp_path, vision_spec(read_configuration(tmp_path)))
