// Keys for a PIN: big ones, dots instead of digits, and a wait that is counted down. The digits are in no field.

const DIGITS = 6;

/** A pad in `root`; calls `done(pin)` at the sixth digit. */
export class PinPad {
  #root;
  #dots;
  #say;
  #done;
  #pin = "";
  #timer = 0;
  #isReady = true;

  constructor(root, done) {
    this.#root = root;
    this.#dots = root.querySelector("[data-dots]");
    this.#say = root.querySelector("[data-say]");
    this.#done = done;
    for (const button of root.querySelectorAll("[data-digit]")) {
      button.addEventListener("click", () => this.#press(button.dataset.digit));
    }
    root.querySelector("[data-erase]").addEventListener("click", () => this.#erase());
    addEventListener("keydown", (event) => this.#key(event));
    this.#show();
  }

  /** Begin anew, with a sentence beside the dots. */
  restart(sentence = "") {
    clearInterval(this.#timer);
    this.#pin = "";
    this.#isReady = true;
    this.say(sentence);
    this.#show();
  }

  /** Take no digit until the box says something. */
  hold(sentence = "") {
    clearInterval(this.#timer);
    this.#isReady = false;
    this.say(sentence);
    this.#show();
  }

  /** Take no digit for some seconds, and count them down after `sentence`. */
  wait(seconds, sentence) {
    const until = Date.now() + seconds * 1000;
    this.#pin = "";
    this.hold();
    const tick = () => {
      const left = Math.ceil((until - Date.now()) / 1000);
      if (left <= 0) return this.restart("Type the PIN again.");
      return this.say(`${sentence} Wait ${left < 60 ? `${left} s` : `${Math.ceil(left / 60)} min`}.`);
    };
    tick();
    this.#timer = setInterval(tick, 500);
  }

  say(sentence) {
    if (this.#say.textContent !== sentence) this.#say.textContent = sentence;
  }

  #press(digit) {
    if (!this.#isReady || this.#pin.length === DIGITS) return;
    this.#pin += digit;
    this.#show();
    if (this.#pin.length < DIGITS) return;
    const pin = this.#pin;
    this.#isReady = false;
    this.#done(pin);
    this.#pin = "";
  }

  #erase() {
    if (!this.#isReady) return;
    this.#pin = this.#pin.slice(0, -1);
    this.#show();
  }

  #key(event) {
    // Two pads on a page: the one that is seen.
    if (!this.#root.checkVisibility() || document.querySelector("dialog[open]:not(:has([data-pin-pad]))")) return;
    if (document.querySelector("dialog[open]") && this.#root.closest("dialog[open]") === null) return;
    if (/^[0-9]$/.test(event.key)) this.#press(event.key);
    else if (event.key === "Backspace") this.#erase();
    else return;
    event.preventDefault();
  }

  #show() {
    this.#dots.dataset.count = String(this.#pin.length);
    this.#dots.setAttribute("aria-label", `${this.#pin.length} of ${DIGITS} digits`);
    this.#root.classList.toggle("is-held", !this.#isReady);
  }
}

let asking = null;

/** Ask for a PIN in the page's dialog; resolves with the digits, or null when it was closed. */
export function askPin(title, sentence = "") {
  const dialog = document.getElementById("pin-dialog");
  asking ??= { pad: null, resolve: null };
  asking.pad ??= new PinPad(dialog.querySelector("[data-pin-pad]"), (pin) => {
    const { resolve } = asking;
    asking.resolve = null;
    dialog.close();
    resolve(pin);
  });
  dialog.onclose = () => {
    // Told late: by then the dialog may ask the next thing.
    if (dialog.open) return;
    asking.resolve?.(null);
    asking.resolve = null;
  };
  document.getElementById("pin-dialog-title").textContent = title;
  asking.pad.restart(sentence);
  dialog.showModal();
  return new Promise((resolve) => {
    asking.resolve = resolve;
  });
}

/** Ask for a new PIN twice; resolves with both, or null when it was closed. */
export async function askNewPin(whose) {
  const first = await askPin(`${whose}: choose six digits`, "No birth date, no row, not all alike.");
  if (first === null) return null;
  const second = await askPin(`${whose}: the same digits again`);
  return second === null ? null : { pin: first, again: second };
}
