// Choosing who one is, and the PIN; or the phrase, where the disk takes no writes and no PIN can be counted.

import { post } from "./api.js";
import { Pager } from "./pager.js";
import { PinPad } from "./pin_pad.js";

const tiles = [...document.querySelectorAll("[data-user]")];
const demonstration = document.getElementById("demonstration");
const closed = document.getElementById("closed");
const root = document.querySelector("[data-pin-pad]");
const pad = root === null ? null : new PinPad(root, signIn);
let chosen = null;

new Pager(document.getElementById("people"));

function choose(tile) {
  chosen = tile;
  for (const each of tiles) each.setAttribute("aria-pressed", String(each === tile));
  if (demonstration !== null) demonstration.textContent = tile.dataset.demonstration;
  if (pad === null) return askPhrase(tile);
  const isClosed = tile.dataset.wait === "closed";
  closed.hidden = !isClosed || !("lead" in tile.dataset);
  if (!closed.hidden) closed.querySelector("a").href = `/lead-pin/${tile.dataset.user}`;
  const until = Number(tile.dataset.until ?? 0);
  if (isClosed) pad.hold(`${tile.dataset.name} needs a new PIN. The lead gives it.`);
  else if (until > Date.now()) pad.wait((until - Date.now()) / 1000, "Too many wrong PINs.");
  else pad.restart();
  return undefined;
}

async function signIn(pin) {
  const tile = chosen;
  pad.say("One moment…");
  try {
    const answer = await post("/api/sign-in", { user_id: tile.dataset.user, pin });
    location.replace(answer.go);
  } catch (error) {
    refuse(tile, error);
  }
}

function refuse(tile, error) {
  const wait = error.answer?.wait_s;
  if (error.answer !== null && "wait_s" in error.answer) {
    tile.dataset.wait = wait === null ? "closed" : "";
    tile.dataset.until = String(Date.now() + (wait ?? 0) * 1000);
  }
  if (wait === null) choose(tile);
  else if (wait > 0) pad.wait(wait, error.status === 429 ? "Too many wrong PINs." : error.message);
  else pad.restart(error.message);
}

async function askPhrase(tile) {
  const { askText } = await import("./typing.js");
  const phrase = await askText(`The clinic's phrase, for ${tile.dataset.name}`, { maxLength: 120, isSecret: true });
  const trouble = document.getElementById("trouble");
  if (phrase === null) return;
  try {
    location.replace((await post("/api/sign-in/phrase", { user_id: tile.dataset.user, phrase })).go);
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
  }
}

for (const tile of tiles) {
  if (tile.dataset.wait && tile.dataset.wait !== "closed") {
    tile.dataset.until = String(Date.now() + Number(tile.dataset.wait) * 1000);
  }
  tile.addEventListener("click", () => choose(tile));
}
const first = tiles.find((tile) => tile.getAttribute("aria-pressed") === "true") ?? (tiles.length === 1 ? tiles[0] : null);
if (pad !== null) {
  if (first !== null) choose(first);
  else pad.hold("Touch your name first.");
}
