// Leaves the screen when nobody is at it: says so in time, tells the box of each touch, and hides the page at once.

import { post } from "./api.js";
import { boxState } from "./state.js";

const SIGN_IN = "/sign-in";
const TELL_EVERY_MS = 10_000;
const WARN_MS = 20_000;
const IDLE_MS = Number(document.body.dataset.idleS) * 1000;
const warning = document.getElementById("idle");
let touchedAt = Date.now();
let toldAt = Date.now();
let locksAt = Date.now() + IDLE_MS;

/** Go to the sign-in screen; nothing of the page is seen any more. */
export function leave() {
  document.documentElement.classList.add("is-left");
  location.replace(SIGN_IN);
}

async function tell() {
  toldAt = Date.now();
  try {
    follow(await post("/api/touch"));
  } catch (error) {
    if (error.status === 401) leave();
  }
}

function touched() {
  touchedAt = Date.now();
  locksAt = Math.max(locksAt, touchedAt + IDLE_MS);
  warn();
  if (touchedAt - toldAt >= TELL_EVERY_MS) tell();
}

/** The box decides; the page only follows. */
function follow(session) {
  if (session.state !== "active") return leave();
  locksAt = Date.now() + session.idle_left_s * 1000;
  return warn();
}

function warn() {
  const left = locksAt - Date.now();
  warning.hidden = left > WARN_MS;
  const seconds = Math.max(0, Math.ceil(left / 1000));
  const words = `This screen locks in ${seconds} s. Touch it to go on.`;
  if (!warning.hidden && warning.textContent !== words) warning.textContent = words;
}

function watch() {
  // A touch since the last word to the box must reach it before the box locks.
  if (touchedAt > toldAt && Date.now() - toldAt >= TELL_EVERY_MS) tell();
  warn();
}

for (const name of ["pointerdown", "keydown", "input"]) addEventListener(name, touched, { capture: true, passive: true });
addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});
boxState.addEventListener("change", (event) => {
  if (event.detail?.session && Date.now() - touchedAt > 500) follow(event.detail.session);
});
setInterval(watch, 1000);
