// The clinic's phrase: asked for at once, and again after a wrong one, with the wait counted down.

import { post } from "./api.js";
import { askText } from "./typing.js";

const button = document.getElementById("type-phrase");
const say = document.getElementById("say");
const trouble = document.getElementById("trouble");

async function ask() {
  const phrase = await askText("The clinic's phrase, or the words of a recovery sheet", { maxLength: 120, isSecret: true });
  if (phrase === null) return;
  button.disabled = true;
  trouble.hidden = true;
  say.textContent = "Opening the records. This takes a few seconds.";
  try {
    location.replace((await post("/api/unlock", { phrase })).go);
  } catch (error) {
    refuse(error);
  }
}

function refuse(error) {
  say.textContent = "";
  trouble.textContent = error.message;
  trouble.hidden = false;
  wait(error.answer?.wait_s ?? 0);
}

function wait(seconds) {
  const until = Date.now() + seconds * 1000;
  button.disabled = seconds > 0;
  const timer = setInterval(() => {
    const left = Math.ceil((until - Date.now()) / 1000);
    say.textContent = left > 0 ? `Try again in ${left} s.` : "";
    if (left > 0) return;
    button.disabled = false;
    clearInterval(timer);
  }, 500);
}

button.addEventListener("click", ask);
if (Number(button.dataset.wait) > 0) wait(Number(button.dataset.wait));
