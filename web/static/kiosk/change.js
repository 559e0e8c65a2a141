// Two photos beside each other, the later one laid as the earlier one where the box found how; and what changed in words.

import { get, pause } from "./api.js";

const EVERY_MS = 1000;

const told = document.getElementById("told");
const sentence = document.getElementById("sentence");
const rows = document.getElementById("rows");
const earlier = document.getElementById("earlier");
const later = document.getElementById("later");
const placed = document.getElementById("placed");
const placing = document.getElementById("placing");

function show(change) {
  sentence.textContent = change.is_working ? "Comparing the two photos…" : (change.sentence ?? "");
  sentence.hidden = sentence.textContent === "";
  rows.replaceChildren(...change.rows.map(([name, words]) => row(name, words)));
}

function row(name, words) {
  const line = document.createElement("div");
  line.append(document.createElement("dt"), document.createElement("dd"));
  line.firstChild.textContent = name;
  line.lastChild.textContent = words;
  return line;
}

/** Draw the later photo in the earlier one's place; the photo itself stays as it is. */
async function place(toLater) {
  await Promise.all([earlier.decode(), later.decode()]);
  placed.width = earlier.naturalWidth;
  placed.height = earlier.naturalHeight;
  const [a, b, x, c, d, y] = toLater;
  // Pixel centres are whole numbers to the box, and halves to a canvas.
  const toPixels = new DOMMatrix([a, c, b, d, x + 0.5 - (a + b) / 2, y + 0.5 - (c + d) / 2]);
  const context = placed.getContext("2d");
  context.setTransform(toPixels.inverse());
  context.drawImage(later, 0, 0);
  placing.hidden = false;
  showPlaced(true);
}

function showPlaced(isPlaced) {
  placed.hidden = !isPlaced;
  later.hidden = isPlaced;
  placing.setAttribute("aria-pressed", String(isPlaced));
  document.getElementById("placing-word").textContent = isPlaced ? "Show it as taken" : "Lay it as the earlier one";
  document.getElementById("later-words").textContent = isPlaced ? "Now, laid as the earlier one" : "Now";
}

async function follow() {
  let change = JSON.parse(told.dataset.told);
  show(change);
  while (change.is_working) {
    await pause(EVERY_MS);
    try {
      change = await get(told.dataset.state);
    } catch (error) {
      change = { is_working: false, rows: [], sentence: error.message, to_later: null };
    }
    show(change);
  }
  if (change.to_later !== null) await place(change.to_later);
}

placing.addEventListener("click", () => showPlaced(placed.hidden));
follow();
