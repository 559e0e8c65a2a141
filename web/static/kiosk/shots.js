// The shot list: drawn by the box after each change; a touch chooses a shot, a taken one opens first.

import { announce } from "./announce.js";
import { get, getPage, post } from "./api.js";
import { Pager } from "./pager.js";
import { showPanel } from "./views.js";

const panel = document.getElementById("shots");
const grid = document.getElementById("photo-grid");
const dialog = document.getElementById("shot-dialog");
const all = document.getElementById("all-photos");
const assess = document.getElementById("assess");
const shutter = document.getElementById("shutter");

/** Dispatches `now` when another shot comes next (detail: the shot, or null), `trouble` (detail: a sentence). */
export class Shots extends EventTarget {
  #encounter;
  #version;
  #now;
  #shown = null;

  constructor(live) {
    super();
    this.#encounter = live.dataset.encounter;
    this.#version = live.dataset.shots;
    this.#now = JSON.parse(live.dataset.now);
    panel.addEventListener("click", (event) => this.#touched(event));
    grid.addEventListener("click", (event) => this.#open(event.target.closest("[data-capture]")));
    for (const button of dialog.querySelectorAll("[data-retake]")) {
      button.addEventListener("click", () => this.#retake(button.dataset.retake));
    }
    this.#dress();
  }

  /** The shot that the next press takes; null when the list is done. */
  get now() {
    return this.#now;
  }

  /** Draw the list anew if the box has another version of it than this page. */
  async follow(version) {
    if (version !== null && version !== this.#version) await this.refresh();
  }

  /** Draw the list anew. */
  async refresh() {
    await this.#act(() => get(`/api/encounters/${this.#encounter}/shots`));
  }

  async #act(ask) {
    try {
      const told = await ask();
      this.#draw(told, await getPage(`/api/encounters/${this.#encounter}/shots.html`));
    } catch (error) {
      this.#tell("trouble", error.message);
    }
  }

  #touched(event) {
    if (event.target.closest("#skip") !== null) {
      this.#act(() => post(`/api/encounters/${this.#encounter}/skip`));
      return;
    }
    const shot = event.target.closest("[data-shot]");
    if (shot === null) return;
    if (shot.dataset.capture) this.#open(shot);
    else this.#choose(shot.dataset.shot, {});
  }

  /** Have the next press take a shot; on a small screen the live picture comes to the front for it. */
  #choose(kind, body) {
    showPanel("live");
    this.#act(() => post(`/api/encounters/${this.#encounter}/shots/${kind}`, body));
  }

  #open(photo) {
    if (photo === null) return;
    all.close();
    this.#shown = photo.dataset.kind;
    document.getElementById("shot-title").textContent = photo.dataset.words;
    document.getElementById("shot-note").textContent = photo.dataset.note;
    document.getElementById("shot-image").src = photo.dataset.image;
    document.getElementById("shot-assess").href = photo.dataset.page;
    for (const way of ["card", "change"]) {
      const link = document.getElementById(`shot-${way}`);
      link.hidden = photo.dataset[way] === undefined;
      link.href = photo.dataset[way] ?? "/";
    }
    document.getElementById("shot-again").hidden = panel.querySelector(`[data-shot="${photo.dataset.kind}"]`) === null;
    dialog.showModal();
  }

  #retake(reason) {
    dialog.close();
    this.#choose(this.#shown, { reason });
  }

  #draw(told, page) {
    const before = this.#now;
    this.#version = String(told.version);
    this.#now = told.now;
    replace(panel, page.querySelector("main"));
    replace(grid, page.querySelector("aside"));
    assess.hidden = told.assess_url === null;
    assess.href = told.assess_url ?? "/";
    document.getElementById("shots-count").textContent = `Photos: ${told.count}`;
    this.#dress();
    if (before?.kind === told.now?.kind) return;
    announce(told.now === null ? "All photos are taken." : `Next: ${told.now.words}, ${told.now.hint}`);
  }

  /** What follows from the list: its pages, and which of the bar's buttons is the one to press. */
  #dress() {
    new Pager(panel);
    new Pager(grid);
    const isDone = this.#now === null;
    assess.classList.toggle("is-primary", isDone);
    shutter.classList.toggle("is-primary", !isDone);
    this.#tell("now", this.#now);
  }

  #tell(kind, detail) {
    this.dispatchEvent(new CustomEvent(kind, { detail }));
  }
}

/** Put what was drawn anew in place; pictures that are there already stay, and so does the focus. */
function replace(root, drawn) {
  const focused = root.contains(document.activeElement) ? selectorOf(document.activeElement) : null;
  const known = new Map([...root.querySelectorAll("img")].map((image) => [image.getAttribute("src"), image]));
  for (const image of drawn.querySelectorAll("img")) {
    const old = known.get(image.getAttribute("src"));
    if (old !== undefined) {
      known.delete(image.getAttribute("src"));
      image.replaceWith(old);
    }
  }
  root.replaceChildren(...drawn.childNodes);
  if (focused !== null) root.querySelector(focused)?.focus();
}

function selectorOf(element) {
  if (element.id !== "") return `#${element.id}`;
  return element.dataset.shot ? `[data-shot="${element.dataset.shot}"]` : null;
}
