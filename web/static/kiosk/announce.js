// Reads things aloud through the page's one live region, sentence by sentence, so that a stream is not spelled out.

const region = document.getElementById("announcer");

/** Say one sentence. */
export function announce(sentence) {
  region.textContent = sentence;
}

/** Collects streamed text and says each sentence once it is whole. */
export class SentenceAnnouncer {
  #pending = "";

  add(text) {
    this.#pending += text;
    const end = Math.max(...[". ", "! ", "? ", ".\n"].map((mark) => this.#pending.lastIndexOf(mark)));
    if (end < 0) return;
    announce(this.#pending.slice(0, end + 1).trim());
    this.#pending = this.#pending.slice(end + 2);
  }

  finish() {
    if (this.#pending.trim() !== "") announce(this.#pending.trim());
    this.#pending = "";
  }

  forget() {
    this.#pending = "";
  }
}
