// Choosing a question: the offered ones by one touch, any other through the dialog with its keys.

import "./dialogs.js";
import { attachKeyboard } from "./keyboard.js";

const HINT_BUSY = "When the model has finished.";
const HINT_READY = "The answer comes below the findings.";

/** The question buttons and the dialog; calls `ask(question)`. */
export class Questions {
  #buttons = [...document.querySelectorAll("[data-question]")];
  #hint = document.getElementById("ask-hint");
  #dialog = document.getElementById("asking");
  #input = document.getElementById("question");

  constructor(ask) {
    const keyboard = attachKeyboard(document.getElementById("keyboard"), this.#input);
    for (const button of this.#buttons.filter((each) => each.id !== "other")) {
      button.addEventListener("click", () => ask(button.dataset.question));
    }
    document.getElementById("other").addEventListener("click", () => {
      this.#input.value = "";
      keyboard.restart();
      this.#dialog.showModal();
      this.#input.focus();
    });
    document.getElementById("asking-form").addEventListener("submit", (event) => {
      event.preventDefault();
      const question = this.#input.value.trim();
      if (question === "") return;
      this.#dialog.close();
      ask(question);
    });
  }

  /** Allow a question, or not while one is being answered. */
  enable(isEnabled) {
    for (const button of this.#buttons) button.disabled = !isEnabled;
    this.#hint.textContent = isEnabled ? HINT_READY : HINT_BUSY;
  }
}
