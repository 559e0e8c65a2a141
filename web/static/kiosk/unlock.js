// The morning unlock: by key fob, box PIN, phrase or sheet; after a wrong guess the wait is counted down.

import { get, post } from "./api.js";
import { postFresh } from "./fresh_pin.js";
import { askPin } from "./pin_pad.js";
import { showTrouble } from "./trouble.js";
import { askPhrase } from "./typing.js";

const LOOK_MS = 1000;

const ways = document.getElementById("ways");
const fobWay = document.getElementById("use-fob");
const say = document.getElementById("say");
let fob = JSON.parse(ways.dataset.fob);
let isBusy = false;
let isWaiting = false;

function enable() {
  for (const button of ways.querySelectorAll("button")) button.disabled = isBusy || (isWaiting && button !== fobWay);
}

/** Have the box open the records by `send`, which resolves with its answer, or with undefined when nothing was asked. */
async function open(send) {
  isBusy = true;
  enable();
  showTrouble("");
  say.textContent = "Opening the records. This takes a few seconds.";
  try {
    const answer = await send();
    if (answer?.go) return location.replace(answer.go);
    say.textContent = "";
  } catch (error) {
    if (error.status === 401) return location.replace("/sign-in");
    say.textContent = "";
    showTrouble(error.message);
    wait(error.answer?.wait_s ?? 0);
  }
  isBusy = false;
  return enable();
}

function wait(seconds) {
  if (!(seconds > 0)) return;
  const until = Date.now() + seconds * 1000;
  isWaiting = true;
  const timer = setInterval(() => {
    const left = Math.ceil((until - Date.now()) / 1000);
    if (!isBusy) say.textContent = left > 0 ? `Try again in ${left} s.` : "";
    if (left > 0) return;
    isWaiting = false;
    enable();
    clearInterval(timer);
  }, 500);
}

async function byWords() {
  const phrase = await askPhrase();
  if (phrase !== null) await open(() => post("/api/unlock", { phrase }));
}

async function byPin() {
  const pin = await askPin("Box PIN", "The six digits of this box, not your own.");
  if (pin !== null) await open(() => post("/api/unlock/pin", { pin }));
}

async function byFob() {
  if (fob.state === "none") return showTrouble("No key fob is in. Put it into the box, then touch here again.");
  if (fob.state === "refused") return showTrouble(fob.words);
  return open(() => postFresh("/api/unlock/fob"));
}

function showFob() {
  const words = { none: "Put it into the box", refused: fob.words, ready: `Open with ${fob.words}` }[fob.state];
  fobWay.closest("li").hidden = fob.state === "none" && ways.dataset.hasFobs === undefined;
  fobWay.classList.toggle("is-primary", fob.state === "ready");
  const hint = fobWay.querySelector("[data-hint]");
  if (hint.textContent === words) return;
  hint.textContent = words;
  // What was said of a fob before it came, or went, is not true any more.
  if (!isBusy) showTrouble("");
}

fobWay.addEventListener("click", byFob);
document.getElementById("type-pin")?.addEventListener("click", byPin);
document.getElementById("type-phrase").addEventListener("click", byWords);
showFob();
wait(Number(ways.dataset.wait));
enable();
setInterval(async () => {
  try {
    fob = await get("/api/fob");
    showFob();
  } catch {
    // The header says that the box does not answer; the next round asks again.
  }
}, LOOK_MS);
