// The set-up's answers: the clinic's name and the date, words typed back one by one, the first lead.

import { post } from "./api.js";
import { attachKeyboard } from "./keyboard.js";
import { askNewPin } from "./pin_pad.js";
import { showTrouble } from "./trouble.js";

const LETTERS = ["bdfghjklmn", "prstvz⌫", "aiou"];
const WORD_LETTERS = 5;

async function send(path, body) {
  showTrouble("");
  try {
    const answer = await post(path, body);
    if (answer.go !== null) location.replace(answer.go);
    return answer;
  } catch (error) {
    if (error.status === 401) location.replace("/first-run");
    showTrouble(error.message);
    return null;
  }
}

function askClinic(form) {
  for (const button of form.querySelectorAll("[data-date]")) {
    button.addEventListener("click", () => {
      const name = document.getElementById("clinic-name").value.trim();
      if (name === "") return showTrouble("Please type the clinic's name.");
      return send("/api/first-run/clinic", { name, is_date_right: button.dataset.date === "right" });
    });
  }
}

/** Words typed back: each is looked at with its fifth letter, and the next one comes by itself. */
function askWords(root) {
  const input = document.getElementById("word");
  const boxes = [...root.querySelectorAll("[data-word]")];
  const number = document.getElementById("word-number");
  const keys = document.getElementById("word-keys");
  let left = Number(root.dataset.left);
  let isAsking = false;
  attachKeyboard(keys, input, LETTERS);

  function show() {
    const at = boxes.length - left;
    for (const [index, box] of boxes.entries()) {
      box.dataset.state = index < at ? "right" : index === at ? "now" : "later";
      if (index >= at) box.querySelector("b").textContent = index === at ? input.value.padEnd(WORD_LETTERS, "·") : "";
    }
    number.textContent = String(at + 1);
    // A word goes consonant, vowel, consonant, vowel, consonant: the other keys would be wrong for certain.
    const isVowel = input.value.length % 2 === 1;
    for (const key of keys.querySelectorAll(".key:not([data-key='⌫'])")) {
      key.classList.toggle("is-off", "aiou".includes(key.dataset.key) !== isVowel);
    }
  }

  input.addEventListener("input", async () => {
    input.value = input.value.toLowerCase().replace(/[^a-z]/g, "").slice(0, WORD_LETTERS);
    show();
    if (input.value.length < WORD_LETTERS || isAsking) return;
    isAsking = true;
    const box = boxes[boxes.length - left];
    const word = input.value;
    const answer = await send("/api/first-run/word", { word });
    isAsking = false;
    input.value = "";
    if (answer !== null) {
      box.querySelector("b").textContent = word;
      left = answer.left;
    }
    if (left > 0) show();
  });
  addEventListener("pointerdown", () => setTimeout(() => input.focus(), 0));
  input.focus();
  show();
}

function askLead(button) {
  button.addEventListener("click", async () => {
    const name = document.getElementById("lead-name").value.trim();
    if (name === "") return showTrouble("Please type your name first.");
    const typed = await askNewPin("Your PIN");
    if (typed === null) return undefined;
    button.disabled = true;
    if ((await send("/api/first-run/lead", { name, pin: typed.pin, pin_again: typed.again })) === null) button.disabled = false;
    return undefined;
  });
}

/** The page to print opens beside this one; a screen that is all browser has no beside. */
function offerPrint(link) {
  link.hidden = matchMedia("(display-mode: fullscreen)").matches;
  for (const words of document.querySelectorAll("[data-print]")) words.hidden = link.hidden;
}

for (const [id, begin] of [["clinic", askClinic], ["words", askWords], ["finish", askLead], ["print", offerPrint]]) {
  const element = document.getElementById(id);
  if (element !== null) begin(element);
}
