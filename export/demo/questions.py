"""How people type the follow-up questions, and questions that a picture cannot answer."""

from typing import Final

import numpy as np

from appliance.assessment import FOLLOW_UP_QUESTIONS

_OTHER_WORDINGS: Final = (
    (
        "Is the image good enough?",
        "Is the photo good enough?",
        "Can the picture be used?",
        "Is the picture sharp enough?",
        "Is the quality of the picture ok?",
        "Is this picture good?",
    ),
    (
        "How many lesions?",
        "How many lesions do you see?",
        "How many spots are there?",
        "Is there more than one lesion?",
        "What is the number of lesions?",
        "Count the lesions.",
    ),
    (
        "How big is the lesion?",
        "How large is it?",
        "How big is it?",
        "What is its diameter?",
        "What size is the lesion?",
        "How many mm is the lesion?",
    ),
    (
        "Which colours does the lesion have?",
        "What colour is it?",
        "What colours do you see?",
        "Which colors does it have?",
        "What color is the lesion?",
        "What are the colours of the lesion?",
    ),
    (
        "Is the border of the lesion regular?",
        "Does it have a regular border?",
        "Is the edge regular?",
        "Is the border smooth?",
        "How is the border?",
        "Are the edges regular?",
    ),
)

UNANSWERABLE_QUESTIONS: Final = (
    "Is it cancer?",
    "Is this a melanoma?",
    "Is it dangerous?",
    "What is the diagnosis?",
    "What should I do?",
    "Which treatment do you recommend?",
    "Does it need a biopsy?",
    "How old is the patient?",
    "What is the name of the patient?",
    "Is the patient a man or a woman?",
    "Does it itch?",
    "Does it hurt?",
    "How long has it been there?",
    "Will it go away?",
    "Is it contagious?",
    "Should I call a doctor?",
    "What medicine helps?",
    "Who are you?",
    "What is your name?",
    "What can you do?",
    "What time is it?",
    "How is the weather?",
    "Tell me a joke.",
    "Write a poem.",
    "What is two plus two?",
    "Where is the hospital?",
    "Hello",
    "Thank you",
    "Which body part is this?",
    "Is this an insect bite?",
)


def vary_question(rng: np.random.Generator, question: str) -> str:
    """Return a follow-up question as somebody might type it; half the time as it is."""
    if rng.random() < 0.5:
        return question
    wordings = (question, *_OTHER_WORDINGS[FOLLOW_UP_QUESTIONS.index(question)])
    return vary_typing(rng, wordings[int(rng.integers(len(wordings)))])


def vary_typing(rng: np.random.Generator, text: str) -> str:
    """Sometimes lower the first letter or all letters, drop the final mark, or double a space."""
    case, end, space = rng.random(3)
    if case < 0.2:
        text = text[0].lower() + text[1:]
    elif case < 0.5:
        text = text.lower()
    if end < 0.35:
        text = text.rstrip("?.")
    if space < 0.1:
        text = text.replace(" ", "  ", 1)
    return text
