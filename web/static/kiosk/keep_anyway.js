// Asks why a poor photo is to be kept. The photo waits on the box; the next shutter lets it go.

import { announce } from "./announce.js";
import { post } from "./api.js";

/**
 * Dispatches `kept` (detail: the photo's links), `again` when another photo is to be taken, and `failed` (detail: a
 * sentence) when it could not be kept.
 */
export class KeepAnyway extends EventTarget {
  #dialog;
  #sentence;
  #encounter;
  #held = null;

  constructor(dialog, encounter) {
    super();
    this.#dialog = dialog;
    this.#sentence = dialog.querySelector("[data-sentence]");
    this.#encounter = encounter;
    for (const button of dialog.querySelectorAll("[data-reason]")) {
      button.addEventListener("click", () => this.#keep(button.dataset.reason));
    }
    // Its own button, Escape, and a closing from elsewhere all end here.
    dialog.addEventListener("close", () => this.#held !== null && this.#end("again"));
  }

  /** Show what is wrong with the photo, and why it might be kept all the same. */
  ask(sentence, held) {
    this.#held = held;
    this.#sentence.textContent = sentence;
    if (!this.#dialog.open) this.#dialog.showModal();
    announce(sentence);
  }

  /** Go away, if it is there: another photo is being taken. */
  close() {
    if (this.#dialog.open) this.#dialog.close();
  }

  async #keep(reason) {
    const held = this.#held;
    if (held === null) return;
    this.#held = null;
    try {
      const kept = await post(`/api/encounters/${this.#encounter}/held/${held}`, { reason });
      this.#dialog.close();
      this.#end("kept", kept);
    } catch (error) {
      this.#dialog.close();
      this.#end("failed", error.message);
    }
  }

  #end(kind, detail = null) {
    this.#held = null;
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}
