// Choosing who one is, and the PIN; or the phrase, where the disk takes no writes and no PIN can be counted.

import { post } from "./api.js";
import { Faces } from "./faces.js";
import { showTrouble } from "./trouble.js";

const demonstration = document.getElementById("demonstration");
const closed = document.getElementById("closed");
const hasPad = document.querySelector("[data-pin-pad]") !== null;

async function askPhrase(tile) {
  const { askText } = await import("./typing.js");
  const phrase = await askText(`The clinic's phrase, for ${tile.dataset.name}`, { maxLength: 120, isSecret: true });
  if (phrase === null) return;
  try {
    location.replace((await post("/api/sign-in/phrase", { user_id: tile.dataset.user, phrase })).go);
  } catch (error) {
    showTrouble(error.message);
  }
}

const faces = new Faces(async (tile, pin) => {
  location.replace((await post("/api/sign-in", { user_id: tile.dataset.user, pin })).go);
});
faces.onchoose = (tile) => {
  if (demonstration !== null) demonstration.textContent = tile.dataset.demonstration;
  if (!hasPad) {
    askPhrase(tile);
    return;
  }
  closed.hidden = tile.dataset.wait !== "closed" || !("lead" in tile.dataset);
  if (!closed.hidden) closed.querySelector("a").href = `/lead-pin/${tile.dataset.user}`;
};
faces.start();
