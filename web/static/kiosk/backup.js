// Backups: shows the sticks that are in, starts one backup or drill, and tells how far it is.

import { get, post } from "./api.js";
import { askText } from "./typing.js";

const POLL_MS = 700;

const list = document.getElementById("sticks");
const none = document.getElementById("no-stick");
const work = document.getElementById("work");
const words = document.getElementById("work-words");
const share = document.getElementById("work-share");
const last = document.getElementById("last");
const trouble = document.getElementById("trouble");
let shown = "";

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

function button(text, isPrimary, act) {
  const made = part("button", text, isPrimary ? "button is-primary" : "button");
  made.type = "button";
  made.addEventListener("click", act);
  return made;
}

function row(stick, isBusy) {
  const item = part("li", "", "stick");
  const about = document.createElement("div");
  about.append(part("b", stick.label), part("span", stick.words, "hint"));
  const drill = button("Drill", false, () => startDrill(stick));
  const start = button("Back up now", true, () => act("/api/backup", { path: stick.path }));
  drill.disabled = isBusy || !stick.has_backup;
  start.disabled = isBusy || !stick.is_writable;
  item.append(about, drill, start);
  return item;
}

function show({ last: lastWords, state, sticks }) {
  if (last.textContent !== lastWords) last.textContent = lastWords;
  work.hidden = state.work === "idle";
  work.dataset.work = state.work;
  if (words.textContent !== state.words) words.textContent = state.words;
  share.hidden = !state.is_busy;
  if (state.share === null) share.removeAttribute("value");
  else share.value = state.share;
  none.hidden = sticks.length > 0;
  const now = JSON.stringify([sticks, state.is_busy]);
  if (now === shown) return;
  shown = now;
  list.replaceChildren(...sticks.map((stick) => row(stick, state.is_busy)));
}

async function act(path, body) {
  say("");
  try {
    show(await post(path, body));
  } catch (error) {
    say(error.message);
  }
}

async function startDrill(stick) {
  const phrase = await askText("The words of a recovery sheet, or the clinic's phrase", { maxLength: 120, isSecret: true });
  if (phrase !== null) act("/api/backup/drill", { path: stick.path, phrase });
}

show(JSON.parse(list.dataset.first));
setInterval(async () => {
  try {
    show(await get("/api/backup"));
  } catch (error) {
    if (error.status !== 0) say(error.message);
  }
}, POLL_MS);
