// The second person: who, and their own PIN, which erases. What ended meanwhile is said beside the pad.

import { ApiError, post } from "./api.js";
import { Faces } from "./faces.js";
import { showTrouble } from "./trouble.js";

const path = document.querySelector("[data-path]").dataset.path;

new Faces(async (tile, pin) => {
  try {
    location.replace((await post(path, { user_id: tile.dataset.user, pin })).go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    // A wrong PIN is said at the pad; all else in place of what would go.
    if (error.answer !== null && "wait_s" in error.answer) throw error;
    showTrouble(error.message);
    for (const part of document.querySelectorAll(".goes-list, #why")) part.hidden = true;
    throw new ApiError("", error.status, error.answer);
  }
}).start();
