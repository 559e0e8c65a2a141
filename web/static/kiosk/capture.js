// The capture screen: live picture, shutter, kept photos.

import { announce } from "./announce.js";
import { ApiError, get, post } from "./api.js";
import { KeepAnyway } from "./keep_anyway.js";
import { Pager } from "./pager.js";
import { Preview } from "./preview.js";
import "./dialogs.js";
import { showPanel } from "./views.js";

const SHUTTER_KEYS = [" ", "Enter", "Camera", "CameraShutter"];

const live = document.getElementById("live");
const shutter = document.getElementById("shutter");
const say = document.getElementById("say");
const trouble = document.getElementById("trouble");
const preview = new Preview(document.getElementById("preview"), Number(live.dataset.presses));
const keepAnyway = new KeepAnyway(document.getElementById("keep-anyway"), live.dataset.encounter);
const sentences = JSON.parse(live.dataset.sentences);
const GOOD = "quality.good";
let isKeeping = false;
let canKeep = false;

function look(kind, words) {
  live.dataset.look = kind;
  if (say.textContent !== words) say.textContent = words;
  canKeep = kind === "live" || kind === "still";
  shutter.disabled = !canKeep || isKeeping;
}

function complain(sentence) {
  trouble.textContent = sentence;
  trouble.hidden = sentence === "";
}

preview.addEventListener("live", (event) => {
  const isPoor = event.detail !== null && event.detail !== GOOD;
  live.dataset.quality = event.detail === null ? "unknown" : isPoor ? "poor" : "good";
  // A picture that could be better says how; where nothing was measured, the general guidance stands.
  look("live", sentences[event.detail] ?? live.dataset.guidance);
});
preview.addEventListener("still", () => look("still", "No new picture from the camera"));
preview.addEventListener("dark", (event) => {
  complain("");
  look("dark", event.detail);
});

// The button of a camera, of the dermatoscope, or the foot switch: the box has kept the photo, or says why not.
preview.addEventListener("press", async () => {
  if (isKeeping) return;
  try {
    const press = await get("/api/press");
    keepAnyway.close();
    if (press.page_url) location.assign(press.page_url);
    else if (press.held) {
      preview.freeze();
      keepAnyway.ask(press.sentence, press.held);
    } else complain(press.sentence ?? "");
  } catch (error) {
    complain(error.message);
  }
});

async function keep() {
  // Nothing is kept unseen: on a small screen the first press brings the live picture back.
  if (live.offsetParent === null) {
    showPanel("live");
    return;
  }
  if (isKeeping || !canKeep) return;
  isKeeping = true;
  shutter.disabled = true;
  complain("");
  preview.freeze();
  live.classList.add("is-keeping");
  announce("Keeping the photo");
  try {
    const kept = await post(`/api/encounters/${live.dataset.encounter}/captures`);
    location.assign(kept.page_url);
  } catch (error) {
    if (error instanceof ApiError && error.answer?.held) {
      keepAnyway.ask(error.message, error.answer.held);
      return;
    }
    goOn(error instanceof ApiError ? error.message : "The photo was not kept. Please take it again.");
  }
}

function goOn(sentence = "") {
  complain(sentence);
  isKeeping = false;
  shutter.disabled = !canKeep;
  preview.thaw();
  live.classList.remove("is-keeping");
}

keepAnyway.addEventListener("again", () => goOn());
keepAnyway.addEventListener("failed", (event) => goOn(event.detail));

shutter.addEventListener("click", keep);
document.addEventListener("keydown", (event) => {
  if (!SHUTTER_KEYS.includes(event.key) || event.repeat) return;
  if (event.target.closest("a, button, input, dialog") !== null) return;
  event.preventDefault();
  keep();
});

// A finger leaves no focus behind: the dermatoscope's button, which types a key, then means the shutter again.
document.addEventListener("click", (event) => {
  const pressed = event.target.closest("button");
  if (event.detail > 0 && pressed !== null && pressed.closest("dialog") === null) pressed.blur();
});

async function order(path) {
  try {
    await post(path);
    complain("");
  } catch (error) {
    complain(error.message);
  }
}

document.getElementById("next-picture")?.addEventListener("click", () => order("/api/camera/next"));
document.getElementById("other-camera")?.addEventListener("click", () => order("/api/camera/other"));

// A page that comes back from the browser's memory shows an old list and an old frame.
addEventListener("pageshow", (event) => event.persisted && location.reload());

if (location.hash === "#kept") showPanel("kept");
new Pager(document.getElementById("kept"));
preview.run();
