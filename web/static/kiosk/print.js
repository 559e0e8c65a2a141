// Prints by the box: `[data-prints]` names the address that is posted to; `#print-say`, or `#say`, is told until the page is out.

import { get, pause } from "./api.js";
import { postFresh } from "./fresh_pin.js";

const POLL_MS = 700;
const say = document.querySelector("#print-say, #say");

async function print(button) {
  button.disabled = true;
  try {
    let state = await postFresh(button.dataset.prints);
    while (state?.is_busy) {
      say.textContent = state.words;
      await pause(POLL_MS);
      state = await get("/api/print");
    }
    if (state) say.textContent = state.words;
  } catch (error) {
    say.textContent = error.message;
  }
  button.disabled = false;
}

for (const button of document.querySelectorAll("[data-prints]")) {
  button.addEventListener("click", () => print(button));
}
