"""The demonstration model's recipe, run for a few steps: it learns something, resumes, and leaves a usable folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoTokenizer, Gemma3ForConditionalGeneration

from appliance.assessment import ASSESSMENT_PROMPT
from export.demo.heads import labels_of, turned
from export.demo.model import TOKEN_ID, build_config
from export.demo.optimiser import schedule
from export.demo.phases import Phase, Report
from export.demo.pictures import load_set
from export.demo.speakers import float32_speaker
from export.demo.tokens import CHAT_TEMPLATE, IMAGE_TOKENS, prompt_text
from export.demo.training import HELD_OUT_FOLDER, MODEL_FOLDER, TRAINING_FOLDER, Recipe, draw_pictures, train

TINY = Recipe(
    training_pictures=24,
    held_out_pictures=4,
    decoder_pictures=12,
    vision=Phase(steps=4, learning_rate=2e-3, warm_up=2, batch=6),
    decoder=Phase(steps=4, learning_rate=2e-3, warm_up=2, batch=6),
    joint=Phase(steps=2, learning_rate=8e-4, warm_up=2, batch=6),
    is_compiled=False,
)


class Log:
    """Keeps every figure of every stage."""

    def __init__(self) -> None:
        self.figures: dict[str, list[dict[str, float]]] = {}

    def __call__(self, stage: str) -> Report:
        self.figures[stage] = []
        return lambda _, figures: self.figures[stage].append(figures)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Log]:
    work, log = tmp_path_factory.mktemp("demo"), Log()
    draw_pictures(work, TINY, 1)
    train(work, TINY, log)
    return work, log


def test_every_stage_runs_its_steps(trained: tuple[Path, Log]) -> None:
    _, log = trained
    assert {stage: len(figures) for stage, figures in log.figures.items()} == {"vision": 4, "decoder": 4, "joint": 2}


def test_losses_fall(trained: tuple[Path, Log]) -> None:
    _, log = trained
    assert log.figures["vision"][-1]["loss"] < log.figures["vision"][0]["loss"]
    assert log.figures["decoder"][-1]["text loss"] < log.figures["decoder"][0]["text loss"]


def test_finished_training_is_not_run_again(trained: tuple[Path, Log]) -> None:
    work, _ = trained
    log = Log()
    train(work, TINY, log)
    assert log.figures == {}


def test_same_seed_gives_the_same_steps(trained: tuple[Path, Log], tmp_path: Path) -> None:
    work, first = trained
    for name in (TRAINING_FOLDER, HELD_OUT_FOLDER):
        (tmp_path / name).symlink_to(work / name)
    again = Log()
    train(tmp_path, TINY, again)
    assert again.figures["vision"][-1]["loss"] == pytest.approx(first.figures["vision"][-1]["loss"], rel=1e-3)


def test_folder_is_a_gemma_checkpoint(trained: tuple[Path, Log]) -> None:
    folder = trained[0] / MODEL_FOLDER
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["Gemma3ForConditionalGeneration"]
    assert (folder / "chat_template.jinja").read_text() == CHAT_TEMPLATE
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    assert (settings["size"], settings["image_seq_length"]) == ({"height": 160, "width": 160}, IMAGE_TOKENS)
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [TOKEN_ID["<eos>"], TOKEN_ID["<end_of_turn>"]]
    model = Gemma3ForConditionalGeneration.from_pretrained(folder)
    assert model.dtype == torch.bfloat16


def test_saved_tokenizer_writes_the_prompt_with_the_same_ids(trained: tuple[Path, Log]) -> None:
    folder = trained[0] / MODEL_FOLDER
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(folder)
    prompt = prompt_text(ASSESSMENT_PROMPT)
    ids = own.encode(prompt, add_special_tokens=False).ids
    assert theirs.encode(prompt, add_special_tokens=False) == ids
    assert ids.count(TOKEN_ID["<image_soft_token>"]) == IMAGE_TOKENS
    messages = [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}]
    rendered = theirs.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert rendered == "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n"


def test_reference_speaker_answers_every_picture(trained: tuple[Path, Log]) -> None:
    work, _ = trained
    speak = float32_speaker(work / MODEL_FOLDER)
    answers = list(speak(load_set(work / HELD_OUT_FOLDER).pixels[:2], ASSESSMENT_PROMPT))
    assert len(answers) == 2


def test_sizes_fit_blocks_of_thirty_two() -> None:
    config: Any = build_config()
    text, vision = config.text_config, config.vision_config
    sizes = (text.vocab_size, text.hidden_size, text.intermediate_size, vision.hidden_size, vision.intermediate_size)
    assert all(size % 32 == 0 for size in sizes)


def test_labels_hide_what_a_fault_hides(trained: tuple[Path, Log]) -> None:
    pictures = load_set(trained[0] / TRAINING_FOLDER)
    labels = labels_of(pictures)
    for row, truth in enumerate(pictures.attributes):
        assert (labels.classes["surface"][row] >= 0) == (truth.is_ok and truth.has_lesion)
        assert labels.classes["quality"][row] >= 0


def test_eight_turns_are_eight_different_pictures() -> None:
    picture = torch.from_numpy(np.arange(12).reshape(1, 3, 2, 2))
    turns = {turned(picture, turn).numpy().tobytes() for turn in range(8)}
    assert len(turns) == 8


def test_schedule_warms_up_and_ends_low() -> None:
    rates = [schedule(step, 100, 10) for step in range(100)]
    assert rates[0] < rates[9] > rates[50] > rates[99]
    assert rates[99] < 0.03
