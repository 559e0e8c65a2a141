// The live picture: asks for one frame after the other and draws it. Slow boxes and slow screens make it slow, not late.

import { pause } from "./api.js";

const RETRY_MS = 1000;
const TIMEOUT_MS = 8000;
const BEFORE_ANY = -1;

/**
 * Draws frames on a canvas; dispatches `facts` (detail: the response's headers) and `live` (detail: the key of what to do
 * better, or null), `still` and `dark` (detail: the box's sentence) as it goes, and `press` when a button that is no touch
 * was dealt with since `presses`.
 */
export class Preview extends EventTarget {
  #canvas;
  #context;
  #sequence = BEFORE_ANY;
  #controller = null;
  #isFrozen = false;
  #idle = 0;
  #presses;

  constructor(canvas, presses) {
    super();
    this.#presses = presses;
    this.#canvas = canvas;
    this.#context = canvas.getContext("2d", { alpha: false });
  }

  /** Run until the page goes away. */
  async run() {
    addEventListener("pagehide", () => this.#controller?.abort());
    document.addEventListener("visibilitychange", () => document.hidden && this.#controller?.abort());
    for (;;) {
      if (document.hidden || this.#isFrozen) {
        await pause(100);
        continue;
      }
      try {
        await this.#next();
      } catch (error) {
        if (error.name !== "AbortError") {
          this.#say("dark", "The box does not answer. It may be starting again.");
          await pause(RETRY_MS);
        }
      }
    }
  }

  /** Hold the picture that is seen now, while it is being kept. */
  freeze() {
    this.#isFrozen = true;
    this.#controller?.abort();
  }

  /** Go on. */
  thaw() {
    this.#isFrozen = false;
  }

  async #next() {
    this.#controller = new AbortController();
    const response = await fetch(`/preview?after=${this.#sequence}`, {
      signal: AbortSignal.any([this.#controller.signal, AbortSignal.timeout(TIMEOUT_MS)]),
      cache: "no-store",
      credentials: "same-origin",
    });
    if (response.status === 204) {
      this.#idle += 1;
      if (this.#idle >= 2) this.#say("still");
      return;
    }
    if (!response.ok) {
      this.#sequence = BEFORE_ANY;
      this.#say("dark", (await sentenceOf(response)) ?? "The camera is off.");
      await pause(RETRY_MS);
      return;
    }
    const sequence = Number(response.headers.get("X-Frame-Sequence"));
    const presses = Number(response.headers.get("X-Presses"));
    const bitmap = await createImageBitmap(await response.blob());
    this.#draw(bitmap);
    bitmap.close();
    this.#sequence = sequence;
    this.#idle = 0;
    this.#say("facts", response.headers);
    this.#say("live", response.headers.get("X-Quality"));
    if (presses !== this.#presses) {
      this.#presses = presses;
      this.#say("press");
    }
  }

  #draw(bitmap) {
    if (this.#isFrozen) return;
    if (this.#canvas.width !== bitmap.width || this.#canvas.height !== bitmap.height) {
      this.#canvas.width = bitmap.width;
      this.#canvas.height = bitmap.height;
    }
    this.#context.drawImage(bitmap, 0, 0);
  }

  #say(kind, sentence = null) {
    this.dispatchEvent(new CustomEvent(kind, { detail: sentence }));
  }
}

async function sentenceOf(response) {
  try {
    return (await response.json()).error ?? null;
  } catch {
    return null;
  }
}
