// The dashed box: the only place where the model's words appear, and they enter it as text, never as markup.

import { announce, SentenceAnnouncer } from "./announce.js";
import { element } from "./elements.js";

const PENDING = "What the model writes appears here. The photo is kept.";
const WITHDRAWN = "What was written here has been withdrawn.";
const INCOMPLETE = "Stopped here: this is not complete.";

/** One answer of the model: the assessment itself, or the answer to a question. */
export class Answer {
  #root = element("article", { className: "answer" });
  #findings = element("dl", { className: "findings" });
  #text = element("p", { className: "text" });
  #remark = element("p", { className: "remark", textContent: PENDING });
  #rows = new Map();
  #spoken = new SentenceAnnouncer();
  #changed;

  constructor(question, changed) {
    this.#changed = changed;
    if (question !== null) this.#root.append(element("h3", { className: "question", textContent: question }));
    this.#findings.hidden = true;
    this.#text.hidden = true;
    this.#root.append(this.#findings, this.#text, this.#remark);
  }

  get root() {
    return this.#root;
  }

  get isEmpty() {
    return this.#rows.size === 0 && this.#text.textContent === "";
  }

  /** Add one row, or correct it. */
  finding({ name, label, words }) {
    let row = this.#rows.get(name);
    if (row === undefined) {
      row = element("div", { className: "row" });
      row.append(element("dt", { textContent: label }), element("dd"));
      this.#rows.set(name, row);
      this.#findings.append(row);
    }
    row.lastChild.textContent = words;
    this.#findings.hidden = false;
    this.#remark.textContent = "";
    announce(`${label}: ${words}`);
    this.#changed();
  }

  text(piece) {
    this.#text.append(piece);
    this.#text.hidden = false;
    this.#remark.textContent = "";
    this.#spoken.add(piece);
    this.#changed();
  }

  setWriting(isWriting) {
    this.#text.classList.toggle("is-writing", isWriting);
  }

  /** Take back everything: its writer died, and nobody vouches for a half sentence. */
  reset() {
    const hadWords = !this.isEmpty;
    this.#rows.clear();
    this.#findings.replaceChildren();
    this.#findings.hidden = true;
    this.#text.textContent = "";
    this.#text.hidden = true;
    this.#spoken.forget();
    if (hadWords) this.#remark.textContent = WITHDRAWN;
    this.#changed();
  }

  end(state) {
    this.setWriting(false);
    if (state === "done") this.#spoken.finish();
    else this.#spoken.forget();
    if (state !== "done" && !this.isEmpty) this.#remark.textContent = INCOMPLETE;
    else if (this.#remark.textContent === PENDING) this.#remark.textContent = "";
    this.#changed();
  }
}

/** The box around the answers: its heading's words, the seconds left, and the ways down and up when there is more than fits. */
export class ModelBox {
  #box = document.getElementById("model");
  #answers = document.getElementById("answers");
  #progress = document.getElementById("progress");
  #more = document.getElementById("more");
  #top = document.getElementById("top");
  #words = "";
  #readyAt = null;
  #isAtEnd = true;

  constructor() {
    setInterval(() => this.#tick(), 1000);
    this.#more.addEventListener("click", () => this.#answers.scrollBy({ top: this.#answers.clientHeight * 0.8 }));
    this.#top.addEventListener("click", () => this.#answers.scrollTo({ top: 0 }));
    this.#answers.addEventListener("scroll", () => this.#look());
    new ResizeObserver(() => this.#look()).observe(this.#answers);
  }

  /** Clear everything and open the assessment. */
  openAssessment() {
    this.#answers.replaceChildren();
    return this.#open(null);
  }

  /** Open an answer under what stands there, and bring its question to the top. */
  openQuestion(question) {
    const answer = this.#open(question);
    answer.root.scrollIntoView({ block: "start" });
    return answer;
  }

  /** Say how it goes; `secondsLeft` counts down by itself. */
  progress(state, words, secondsLeft = null) {
    const isNew = words !== this.#words;
    this.#words = words;
    this.#readyAt = secondsLeft === null ? null : performance.now() + secondsLeft * 1000;
    this.#progress.dataset.state = state;
    this.#box.setAttribute("aria-busy", String(!["done", "cancelled", "failed"].includes(state)));
    this.#tick();
    if (isNew) announce(this.#progress.textContent);
  }

  #open(question) {
    const answer = new Answer(question, () => {
      // An answer is followed down while its reader stays at the end; the findings are read from the top.
      if (question !== null && this.#isAtEnd) this.#answers.scrollTop = this.#answers.scrollHeight;
      this.#look();
    });
    this.#answers.append(answer.root);
    this.#look();
    return answer;
  }

  #tick() {
    let left = "";
    if (this.#readyAt !== null) {
      const seconds = Math.round((this.#readyAt - performance.now()) / 1000);
      left = seconds > 0 ? ` · ${seconds} s left` : " · a little longer";
    }
    const words = this.#words + left;
    if (this.#progress.textContent !== words) this.#progress.textContent = words;
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#answers;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < 12;
    this.#more.hidden = this.#isAtEnd;
    this.#top.hidden = !this.#isAtEnd || scrollTop < 12;
  }
}
