// A key fob in the box, or out of it: the start page says so without being touched.

import { get } from "./api.js";

const LOOK_MS = 2000;
const seen = document.getElementById("fob").dataset.say;

setInterval(async () => {
  if (document.hidden || document.querySelector("dialog[open]") !== null) return;
  try {
    if ((await get("/api/fob")).say !== seen) location.reload();
  } catch {
    // The header says that the box does not answer; the next round asks again.
  }
}, LOOK_MS);
