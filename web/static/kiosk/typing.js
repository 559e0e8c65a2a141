// Asks for a line of words in a dialog with keys on the screen. A field with `data-typed` opens it when it is touched.

import { attachKeyboard } from "./keyboard.js";

const dialog = document.getElementById("typing");
const input = document.getElementById("typing-input");
const label = document.getElementById("typing-label");
const reveal = document.getElementById("typing-reveal");
const keyboard = attachKeyboard(document.getElementById("typing-keys"), input);
let answer = null;

/** Ask; resolves with the words, or null when it was closed. No words are an answer only where they may be none. */
export function askText(question, { value = "", maxLength = 80, isSecret = false, mayBeEmpty = false } = {}) {
  input.required = !mayBeEmpty;
  label.textContent = question;
  input.maxLength = maxLength;
  input.value = value;
  reveal.hidden = !isSecret;
  hide(isSecret);
  if (value === "") keyboard.restart();
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    answer = resolve;
  });
}

/** Ask for what opens the records, the phrase or the words of a recovery sheet; resolves with it, or null. */
export function askPhrase(question = "The clinic's phrase") {
  return askText(`${question}, or the words of a recovery sheet`, { maxLength: 120, isSecret: true });
}

function hide(isHidden) {
  input.classList.toggle("is-secret", isHidden);
  reveal.textContent = isHidden ? "Show" : "Hide";
}

function end(value) {
  const resolve = answer;
  answer = null;
  input.value = "";
  resolve?.(value);
}

reveal.addEventListener("click", () => {
  hide(!input.classList.contains("is-secret"));
  input.focus();
});
document.getElementById("typing-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const value = input.value.trim();
  if (value === "" && input.required) return;
  end(value);
  dialog.close();
});
dialog.addEventListener("close", () => {
  // Told late: by then the dialog may ask the next thing.
  if (!dialog.open) end(null);
});

for (const field of document.querySelectorAll("input[data-typed]")) {
  const open = async () => {
    const value = await askText(field.dataset.typed, { value: field.value, maxLength: field.maxLength });
    if (value === null) return;
    field.value = value;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  };
  field.addEventListener("click", open);
  field.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      open();
    }
  });
}
