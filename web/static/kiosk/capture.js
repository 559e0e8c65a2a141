// The capture screen: live picture, shutter, and what comes after a photo: the next shot, or its assessment.

import { announce } from "./announce.js";
import { ApiError, get, pause, post } from "./api.js";
import { KeepAnyway } from "./keep_anyway.js";
import { LampPanel } from "./light.js";
import { LiveFacts } from "./live_facts.js";
import { Pager } from "./pager.js";
import { Preview } from "./preview.js";
import { Shots } from "./shots.js";
import { showTrouble } from "./trouble.js";
import "./dialogs.js";
import { showPanel } from "./views.js";

const SHUTTER_KEYS = [" ", "Enter", "Camera", "CameraShutter"];
const SEEN_MS = 700;
const GOOD = "quality.good";

const live = document.getElementById("live");
const shutter = document.getElementById("shutter");
const say = document.getElementById("say");
const preview = new Preview(document.getElementById("preview"), Number(live.dataset.presses));
const keepAnyway = new KeepAnyway(document.getElementById("keep-anyway"), live.dataset.encounter);
const shots = live.dataset.shots === undefined ? null : new Shots(live);
const lamp = document.getElementById("light") === null ? null : new LampPanel();
const facts = new LiveFacts(shots, lamp);
const sentences = JSON.parse(live.dataset.sentences);
let isKeeping = false;
let canKeep = false;

function look(kind, words) {
  live.dataset.look = kind;
  if (say.textContent !== words) say.textContent = words;
  canKeep = kind === "live" || kind === "still";
  shutter.disabled = !canKeep || isKeeping;
}

function guidance() {
  if (shots === null) return live.dataset.guidance;
  return shots.now === null ? "All photos are taken: go on to Assess." : `${shots.now.words}: ${shots.now.hint}`;
}

preview.addEventListener("facts", (event) => {
  shots?.follow(event.detail.get("X-Shots"));
  lamp?.follow(event.detail.get("X-Light"));
  facts.show(event.detail.get("X-Meters"));
});
preview.addEventListener("live", (event) => {
  const isPoor = event.detail !== null && event.detail !== GOOD;
  live.dataset.quality = event.detail === null ? "unknown" : isPoor ? "poor" : "good";
  // A picture that could be better says how; where nothing was measured, the general guidance stands, and so it does
  // once nothing more is wanted.
  const isWanted = shots === null || shots.now !== null;
  look("live", (isWanted && sentences[event.detail]) || guidance());
});
preview.addEventListener("still", () => look("still", "No new picture from the camera"));
preview.addEventListener("dark", (event) => {
  showTrouble("");
  look("dark", event.detail);
});
shots?.addEventListener("trouble", (event) => showTrouble(event.detail));
lamp?.addEventListener("trouble", (event) => showTrouble(event.detail));
facts.follow();

// The button of a camera, of the dermatoscope, or the foot switch: the box has kept the photo, or says why not.
preview.addEventListener("press", async () => {
  if (isKeeping) return;
  try {
    const press = await get("/api/press");
    keepAnyway.close();
    if (press.held) {
      preview.freeze();
      keepAnyway.ask(press.sentence, press.held);
    } else if (press.page_url) await kept(press);
    else showTrouble(press.sentence ?? "");
  } catch (error) {
    showTrouble(error.message);
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
  showTrouble("");
  preview.freeze();
  live.classList.add("is-keeping");
  announce("Keeping the photo");
  try {
    await kept(await post(`/api/encounters/${live.dataset.encounter}/captures`));
  } catch (error) {
    if (error instanceof ApiError && error.answer?.held) {
      await shots?.refresh();
      keepAnyway.ask(error.message, error.answer.held);
      return;
    }
    goOn(error instanceof ApiError ? error.message : "The photo was not kept. Please take it again.");
  }
}

/** Without a list the photo leads to its assessment; with one the screen stays, and shows what was kept for a moment. */
async function kept(photo) {
  if (shots === null) {
    location.assign(photo.page_url);
    return;
  }
  isKeeping = true;
  preview.freeze();
  const words = photo.kept > 1 ? `${photo.kept} photos kept` : "Kept";
  look("kept", words);
  announce(words);
  await Promise.all([shots.refresh(), pause(SEEN_MS)]);
  goOn(photo.sentence ?? "");
}

function goOn(sentence = "") {
  showTrouble(sentence);
  isKeeping = false;
  shutter.disabled = !canKeep;
  preview.thaw();
  live.classList.remove("is-keeping");
}

keepAnyway.addEventListener("again", () => goOn());
keepAnyway.addEventListener("failed", (event) => goOn(event.detail));
keepAnyway.addEventListener("kept", (event) => kept(event.detail));

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
    showTrouble("");
  } catch (error) {
    showTrouble(error.message);
  }
}

document.getElementById("next-picture")?.addEventListener("click", () => order("/api/camera/next"));
document.getElementById("other-camera")?.addEventListener("click", () => order("/api/camera/other"));

// A page that comes back from the browser's memory shows an old list and an old frame.
addEventListener("pageshow", (event) => event.persisted && location.reload());

if (location.hash === "#kept") showPanel(shots === null ? "kept" : "shots");
if (shots === null) new Pager(document.getElementById("kept"));
preview.run();
