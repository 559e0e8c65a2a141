// A recovery sheet held before the camera: the box looks again and again for a while, and opens the records by it.

import { pause, post } from "./api.js";
import { Preview } from "./preview.js";
import { isTroubleShown, showTrouble } from "./trouble.js";

const LOOKS = 40;
const BETWEEN_MS = 400;

const again = document.getElementById("look");
const say = document.getElementById("say");

/** Looking is no touch of a person's, so it ends: a screen that was left must lock. */
async function look() {
  again.disabled = true;
  showTrouble("");
  say.textContent = "Looking for the code…";
  for (let left = LOOKS; left > 0 && !document.hidden; left -= 1) {
    try {
      const { go } = await post("/api/unlock/sheet");
      if (go) {
        say.textContent = "Opening the records.";
        return location.replace(go);
      }
    } catch (error) {
      if (error.status === 401) return location.replace("/sign-in");
      showTrouble(error.message);
      break;
    }
    await pause(BETWEEN_MS);
  }
  say.textContent = isTroubleShown() ? "" : "No code was seen.";
  again.disabled = false;
  return undefined;
}

const preview = new Preview(document.getElementById("preview"), 0);
preview.addEventListener("dark", (event) => showTrouble(event.detail));
again.addEventListener("click", look);
preview.run();
look();
