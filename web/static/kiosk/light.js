// The dermatoscope's light: what it does, in the box's words, and what the nurse wants of it.

import { get, post } from "./api.js";

const panel = document.getElementById("light");
const words = document.getElementById("lamp");
const panelWords = document.getElementById("light-words");

/** Dispatches `trouble` (detail: a sentence); `isTouching` is null where nobody knows. */
export class LampPanel extends EventTarget {
  isTouching = null;
  #version = null;

  constructor() {
    super();
    for (const button of panel.querySelectorAll("[data-light]")) {
      button.addEventListener("click", () => this.#order("/api/light", { light: button.dataset.light || null }));
    }
    for (const button of panel.querySelectorAll("[data-level]")) {
      button.addEventListener("click", () => this.#order("/api/light/level", { steps: Number(button.dataset.level) }));
    }
  }

  /** Ask the box for the light's state if it is another than the one shown. */
  async follow(version) {
    if (version === null || version === this.#version) return;
    this.#version = version;
    try {
      this.#show(await get("/api/light"));
    } catch {
      // The next frame tells again.
      this.#version = null;
    }
  }

  async #order(path, body) {
    try {
      this.#show(await post(path, body));
    } catch (error) {
      this.dispatchEvent(new CustomEvent("trouble", { detail: error.message }));
    }
  }

  #show(light) {
    this.isTouching = light.is_touching;
    for (const button of panel.querySelectorAll("[data-light]")) {
      button.setAttribute("aria-pressed", String(button.dataset.light === (light.chosen ?? "")));
    }
    document.getElementById("level").textContent = `${light.level_percent} %`;
    words.hidden = false;
    words.dataset.state = light.state;
    words.dataset.shines = String(light.shines || light.notice !== null);
    words.textContent = light.notice === null ? light.words : `${light.words} · ${light.notice}`;
    panelWords.textContent = words.textContent;
  }
}
