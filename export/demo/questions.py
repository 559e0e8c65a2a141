"""How people type the questions that a drawing can answer, and questions that it cannot."""

from typing import Final

import numpy as np

from export.demo.answers import ANSWERABLE_QUESTIONS

_OTHER_WORDINGS: Final = (
    (
        "Is the image good enough?",
        "Is the photo good enough?",
        "Can the picture be used?",
        "Is the picture sharp enough?",
        "Is the quality of the picture ok?",
        "Is this picture good?",
        "Should I take another picture?",
    ),
    (
        "How many lesions?",
        "How many lesions do you see?",
        "How many spots are there?",
        "Is there more than one lesion?",
        "What is the number of lesions?",
        "Count the lesions.",
        "Is there a lesion?",
    ),
    (
        "How big is the lesion?",
        "How large is it?",
        "How big is it?",
        "What is its diameter?",
        "What size is the lesion?",
        "How many mm is the lesion?",
        "How wide is it?",
    ),
    (
        "Which colours does the lesion have?",
        "What colour is it?",
        "What colours do you see?",
        "Which colors does it have?",
        "What color is the lesion?",
        "What are the colours of the lesion?",
        "Name the colours.",
    ),
    (
        "Is the border of the lesion regular?",
        "Does it have a regular border?",
        "Is the edge regular?",
        "Is the border smooth?",
        "How is the border?",
        "Are the edges regular?",
        "What does the border look like?",
    ),
    (
        "Is the lesion symmetric?",
        "Is it symmetrical?",
        "Is the lesion asymmetric?",
        "How symmetric is it?",
        "Is the shape symmetric?",
        "What about the symmetry?",
    ),
    (
        "Is it raised?",
        "Is it flat?",
        "Is the surface scaly?",
        "Is it ulcerated?",
        "Is there an ulcer?",
        "How is the surface?",
        "What is the surface of the lesion?",
    ),
    (
        "What's the skin tone?",
        "Which skin tone is it?",
        "Is the skin light or dark?",
        "How dark is the skin?",
        "What is the colour of the skin?",
    ),
    (
        "Describe it.",
        "Describe the picture.",
        "What do you see?",
        "What is this?",
        "What does it look like?",
        "Tell me about the lesion.",
        "Please describe the lesion in words.",
    ),
)

_UNANSWERABLE_WORDINGS: Final[dict[str, tuple[str, ...]]] = {
    "Is it {}?": (
        *("cancer", "a melanoma", "benign", "malignant", "dangerous", "serious", "infected", "contagious", "a mole"),
        *("eczema", "psoriasis", "a wart", "an insect bite", "normal", "urgent", "painful", "hereditary"),
    ),
    "Does it {}?": ("itch", "hurt", "bleed", "grow", "spread", "need a biopsy", "need treatment", "go away by itself"),
    "Should I {}?": ("call a doctor", "worry", "remove it", "use a cream", "send the patient to a hospital", "wait"),
    "What is the {}?": ("diagnosis", "treatment", "cause", "risk", "prognosis", "next step", "time", "weather", "date"),
    "How {}?": (
        "old is the patient",
        "long has it been there",
        "deep is it",
        "do I treat it",
        "are you",
        "sure are you",
    ),
    "Who {}?": ("are you", "made you", "is the patient", "is the doctor"),
    "Which {}?": ("body part is this", "medicine helps", "doctor is responsible", "cream is best"),
    "{}": (
        *("Hello", "Hi", "Thank you", "Yes", "No", "Help", "Test", "Tell me a joke.", "Write a poem.", "Good morning"),
        *("What is two plus two?", "What is your name?", "What can you do?", "Where is the hospital?"),
        *("Will it come back?", "Is the patient a man or a woman?", "Can you diagnose this?", "abc", "asdf", "???"),
    ),
}

UNANSWERABLE_QUESTIONS: Final = tuple(
    frame.format(filling) for frame, fillings in _UNANSWERABLE_WORDINGS.items() for filling in fillings
)


def vary_question(rng: np.random.Generator, question: str) -> str:
    """Return an answerable question as somebody might type it; half the time as it is."""
    if rng.random() < 0.5:
        return question
    wordings = (question, *_OTHER_WORDINGS[ANSWERABLE_QUESTIONS.index(question)])
    return vary_typing(rng, wordings[int(rng.integers(len(wordings)))])


def vary_typing(rng: np.random.Generator, text: str) -> str:
    """Sometimes lower the first letter or all letters, raise all, drop the final mark, or double a space."""
    case, end, space = rng.random(3)
    if case < 0.2:
        text = text[0].lower() + text[1:]
    elif case < 0.45:
        text = text.lower()
    elif case < 0.53:
        text = text.upper()
    if end < 0.35:
        text = text.rstrip("?.") or text
    if space < 0.05:
        text = text.replace(" ", "  ", 1)
    return text
