// Turns a long list over, a page at a time, so that nothing scrolls.

/** Pages of the children of `[data-pages]`, turned by `[data-turn]` buttons that hide where there is one page. */
export class Pager {
  #items;
  #size;
  #turns;
  #first = 0;

  constructor(root) {
    const list = root.querySelector("[data-pages]");
    this.#items = list === null ? [] : [...list.children];
    this.#size = list === null ? 1 : Number(list.dataset.pages);
    this.#turns = [...root.querySelectorAll("[data-turn]")];
    for (const button of this.#turns) {
      button.addEventListener("click", () => this.#turn(Number(button.dataset.turn)));
    }
    this.#turn(0);
  }

  #turn(direction) {
    const last = Math.max(0, Math.floor((this.#items.length - 1) / this.#size) * this.#size);
    this.#first = Math.min(last, Math.max(0, this.#first + direction * this.#size));
    for (const [index, item] of this.#items.entries()) {
      item.hidden = index < this.#first || index >= this.#first + this.#size;
    }
    for (const button of this.#turns) {
      button.parentElement.hidden = this.#items.length <= this.#size;
      button.disabled = Number(button.dataset.turn) < 0 ? this.#first === 0 : this.#first === last;
    }
  }
}
