// Making a key fob: shows the sticks that are in, asks for a name and the phrase, and has the box write the key.

import { get } from "./api.js";
import { postFresh } from "./fresh_pin.js";
import { askText } from "./typing.js";

const POLL_MS = 700;

const list = document.getElementById("sticks");
const none = document.getElementById("no-stick");
const trouble = document.getElementById("trouble");
let shown = "";
let isBusy = false;

function say(sentence) {
  trouble.textContent = sentence;
  trouble.hidden = sentence === "";
}

function part(name, text, className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  made.className = className;
  return made;
}

function row(stick) {
  const item = part("li", "", "stick");
  const about = document.createElement("div");
  about.append(part("b", stick.label), part("span", stick.words, "hint"));
  const make = part("button", "Make it a key fob", "button is-primary");
  make.type = "button";
  make.disabled = !stick.is_writable;
  make.addEventListener("click", () => start(stick));
  item.append(about, make);
  return item;
}

function show({ sticks }) {
  none.hidden = sticks.length > 0;
  const now = JSON.stringify(sticks);
  if (now === shown) return;
  shown = now;
  list.replaceChildren(...sticks.map(row));
}

async function start({ path }) {
  if (isBusy) return;
  say("");
  const name = await askText("A name for this key fob, such as whose it is", { maxLength: 40 });
  if (name === null) return;
  const phrase = await askText("The clinic's phrase, or the words of a recovery sheet", { maxLength: 120, isSecret: true });
  if (phrase === null) return;
  isBusy = true;
  try {
    const answer = await postFresh("/api/secrets/fobs", { path, name, phrase });
    if (answer?.go) location.replace(answer.go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    say(error.message);
  }
  isBusy = false;
}

show(JSON.parse(list.dataset.first));
setInterval(async () => {
  try {
    show(await get("/api/secrets/fobs/sticks"));
  } catch (error) {
    if (error.status !== 0) say(error.message);
  }
}, POLL_MS);
