// Backups: shows the sticks that are in, starts one backup or drill, and tells how far it is.

import { get, post } from "./api.js";
import { stickButton, stickRow } from "./elements.js";
import { showTrouble } from "./trouble.js";
import { askText } from "./typing.js";

const POLL_MS = 700;

const list = document.getElementById("sticks");
const none = document.getElementById("no-stick");
const work = document.getElementById("work");
const words = document.getElementById("work-words");
const share = document.getElementById("work-share");
const last = document.getElementById("last");
let shown = "";

function row(stick, isBusy) {
  const drill = stickButton("Drill", { isDisabled: isBusy || !stick.has_backup, act: () => startDrill(stick) });
  const start = stickButton("Back up now", {
    isPrimary: true,
    isDisabled: isBusy || !stick.is_writable,
    act: () => act("/api/backup", { path: stick.path }),
  });
  return stickRow(stick, drill, start);
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
  showTrouble("");
  try {
    show(await post(path, body));
  } catch (error) {
    showTrouble(error.message);
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
    if (error.status !== 0) showTrouble(error.message);
  }
}, POLL_MS);
