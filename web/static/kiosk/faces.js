// Tiles of people and a PIN pad beside them: who, then the digits, with the waits that wrong ones cost.

import { Pager } from "./pager.js";
import { PinPad } from "./pin_pad.js";

/** The tiles and the pad of a page; calls `submit(tile, pin)`, whose error is shown at the pad. */
export class Faces {
  #tiles = [...document.querySelectorAll("[data-user]")];
  #pad = null;
  #submit;
  #chosen = null;

  constructor(submit) {
    this.#submit = submit;
    const root = document.querySelector("[data-pin-pad]");
    if (root !== null) this.#pad = new PinPad(root, (pin) => this.#send(pin));
    new Pager(document.getElementById("people"));
    for (const tile of this.#tiles) {
      if (tile.dataset.wait && tile.dataset.wait !== "closed") {
        tile.dataset.until = String(Date.now() + Number(tile.dataset.wait) * 1000);
      }
      tile.addEventListener("click", () => this.#choose(tile));
    }
  }

  /** Begin with who is pressed already, or with the only one. */
  start() {
    const pressed = this.#tiles.find((tile) => tile.getAttribute("aria-pressed") === "true");
    const first = pressed ?? (this.#tiles.length === 1 ? this.#tiles[0] : null);
    if (this.#pad === null) return;
    if (first !== null) this.#choose(first);
    else this.#pad.hold("Touch your name first.");
  }

  /** Told of each tile that is chosen. */
  onchoose = () => {};

  #choose(tile) {
    this.#chosen = tile;
    for (const each of this.#tiles) each.setAttribute("aria-pressed", String(each === tile));
    this.onchoose(tile);
    if (this.#pad === null) return;
    const until = Number(tile.dataset.until ?? 0);
    if (tile.dataset.wait === "closed") this.#pad.hold(`${tile.dataset.name} needs a new PIN. The lead gives it.`);
    else if (until > Date.now()) this.#pad.wait((until - Date.now()) / 1000, "Too many wrong PINs.");
    else this.#pad.restart();
  }

  async #send(pin) {
    const tile = this.#chosen;
    this.#pad.say("One moment…");
    try {
      await this.#submit(tile, pin);
    } catch (error) {
      this.#refuse(tile, error);
    }
  }

  #refuse(tile, error) {
    const wait = error.answer?.wait_s;
    if (error.answer !== null && "wait_s" in error.answer) {
      tile.dataset.wait = wait === null ? "closed" : "";
      tile.dataset.until = String(Date.now() + (wait ?? 0) * 1000);
    }
    if (wait === null) this.#choose(tile);
    else if (wait > 0) this.#pad.wait(wait, error.status === 429 ? "Too many wrong PINs." : error.message);
    else this.#pad.restart(error.message);
  }
}
