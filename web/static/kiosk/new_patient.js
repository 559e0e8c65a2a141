// The form of a new patient: each field is kept by the box as soon as it is left.

import "./dialogs.js";
import { post } from "./api.js";
import { showTrouble } from "./trouble.js";
import { askText } from "./typing.js";

const form = document.getElementById("form");
const saved = document.getElementById("saved");

function valueOf(tile) {
  const shown = tile.querySelector("[data-value]");
  return shown.textContent === shown.dataset.empty ? "" : shown.textContent;
}

async function keep(tile, value, words = null) {
  showTrouble("");
  saved.textContent = "Saving…";
  try {
    const taken = (await post(form.dataset.path, { field: tile.dataset.field, value })).value;
    const shown = tile.querySelector("[data-value]");
    shown.textContent = taken === "" ? shown.dataset.empty : (words ?? taken);
    saved.textContent = `${tile.dataset.label}: saved.`;
  } catch (error) {
    saved.textContent = "";
    showTrouble(error.message);
  }
}

for (const tile of form.querySelectorAll("[data-field]")) {
  tile.addEventListener("click", async () => {
    if (tile.dataset.dialog !== undefined) return document.getElementById(tile.dataset.dialog).showModal();
    const value = await askText(tile.dataset.label, {
      value: valueOf(tile),
      maxLength: Number(tile.dataset.max),
      mayBeEmpty: true,
    });
    return value === null ? undefined : keep(tile, value);
  });
}
for (const dialog of document.querySelectorAll("[data-choices]")) {
  const tile = form.querySelector(`[data-field="${dialog.dataset.choices}"]`);
  for (const choice of dialog.querySelectorAll("[data-choice]")) {
    choice.addEventListener("click", () => {
      dialog.close();
      keep(tile, choice.dataset.choice, choice.dataset.words);
    });
  }
}
document.getElementById("save").addEventListener("click", async () => {
  showTrouble("");
  try {
    location.assign((await post(`${form.dataset.path}/save`)).go);
  } catch (error) {
    showTrouble(error.message);
  }
});
