// What stands on the live picture: which shot comes now, small meters, and the earlier photo of the same view.

const now = document.getElementById("now");
const ghost = document.getElementById("ghost");
const ghostSwitch = document.getElementById("ghost-switch");
const meters = new Map([...document.querySelectorAll("[data-meter]")].map((item) => [item.dataset.meter, item]));
const WORDS = { good: "good", poor: "not yet" };

/** Keeps them true; needs no list and no lamp. */
export class LiveFacts {
  #shots;
  #lamp;
  #wantsGhost = false;

  constructor(shots, lamp) {
    this.#shots = shots;
    this.#lamp = lamp;
    shots?.addEventListener("now", () => this.follow());
    ghostSwitch.addEventListener("click", () => {
      this.#wantsGhost = !this.#wantsGhost;
      this.#showGhost();
    });
  }

  /** Say which shot comes now. */
  follow() {
    const shot = this.#shots?.now ?? null;
    now.hidden = shot === null;
    if (shot !== null) now.textContent = `${shot.words} · ${shot.place}`;
    // Each shot begins with the live picture alone: nobody takes an old photo for the skin before the lens.
    this.#wantsGhost = false;
    this.#showGhost();
  }

  /** Show the meters of `focus=1;glare=0`. */
  show(header) {
    const found = new Map((header ?? "").split(";").filter(Boolean).map((part) => part.split("=")));
    const shot = this.#shots?.now ?? null;
    // What looks for the card measures a distance if it sees it.
    if (shot?.wants_card && found.size > 0) found.set("card", found.has("distance") ? "1" : "0");
    const isTouching = this.#lamp?.isTouching ?? null;
    if (shot?.wants_contact && isTouching !== null) found.set("contact", isTouching ? "1" : "0");
    document.getElementById("lamp").classList.toggle("is-idle", !shot?.wants_contact);
    for (const [name, item] of meters) {
      item.hidden = !found.has(name);
      const state = found.get(name) === "1" ? "good" : "poor";
      if (item.dataset.state === state) continue;
      item.dataset.state = state;
      item.querySelector("b").textContent = WORDS[state];
    }
  }

  #showGhost() {
    const url = this.#shots?.now?.earlier_url ?? null;
    ghostSwitch.hidden = url === null;
    ghostSwitch.setAttribute("aria-pressed", String(this.#wantsGhost));
    ghost.hidden = url === null || !this.#wantsGhost;
    if (!ghost.hidden && ghost.getAttribute("src") !== url) ghost.src = url;
    if (url === null) ghost.removeAttribute("src");
  }
}
