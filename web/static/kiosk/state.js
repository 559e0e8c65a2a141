// Keeps the words about the box true: camera and model, asked every two seconds while the page is seen.

import { get, pause } from "./api.js";

const EVERY_MS = 2000;
const UNKNOWN = { camera: "Camera: no word", model: "Model: no word" };

/** Dispatches `change` with the state as detail, or null while the box does not answer. */
export const boxState = new EventTarget();

function show(state) {
  for (const element of document.querySelectorAll("[data-part]")) {
    const name = element.dataset.part;
    const part = state?.[name] ?? { state: "off", words: UNKNOWN[name] };
    element.dataset.state = part.state;
    put(element.querySelector("[data-words]"), part.words);
    put(element.querySelector("[data-answer]"), part.answer_s ? ` · answers in about ${Math.round(part.answer_s)} s` : "");
  }
  const detail = document.querySelector("[data-detail]");
  if (detail !== null) {
    put(detail, state === null ? "This screen cannot reach the box. It tries again by itself." : state.model.detail ?? "");
    detail.hidden = detail.textContent === "";
  }
}

function put(element, text) {
  if (element !== null && element.textContent !== text) element.textContent = text;
}

/** A page at which nobody is signed in knows nothing of a box that was started anew; a kiosk has no button to load it. */
function loadAgain(run) {
  const { run: known } = document.body.dataset;
  if (known !== undefined && run !== undefined && run !== known) location.reload();
}

async function watch() {
  for (;;) {
    if (!document.hidden) {
      let state = null;
      try {
        state = await get("/api/state", AbortSignal.timeout(8000));
      } catch {
        // Shown as "no word"; the next round asks again.
      }
      show(state);
      loadAgain(state?.session?.run);
      boxState.dispatchEvent(new CustomEvent("change", { detail: state }));
    }
    await pause(EVERY_MS);
  }
}

watch();
