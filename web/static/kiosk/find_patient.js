// Finds patients by typed words and lists them; a row opens the patient, or says whose visit it is.

import { post } from "./api.js";
import { element } from "./elements.js";
import { Pager } from "./pager.js";
import { showTrouble } from "./trouble.js";
import { askText } from "./typing.js";

const find = document.getElementById("find");
const chooses = find.dataset.chooses;
const found = document.getElementById("found");
const title = document.getElementById("found-title");
const list = found.querySelector("ul");

function row(person) {
  const item = element("li");
  const way = element(chooses === undefined ? "a" : "button", { className: "button way-on" });
  const words = element("span");
  const details = [person.details, person.seen].filter(Boolean).join(" · ");
  words.append(element("b", { textContent: person.title }), element("span", { textContent: details }));
  way.append(words);
  if (chooses === undefined) way.href = person.url;
  else {
    way.type = "button";
    way.addEventListener("click", () => choose(person));
  }
  item.append(way);
  return item;
}

async function choose(person) {
  showTrouble("");
  try {
    location.assign((await post(chooses, { subject_id: person.subject_id })).go);
  } catch (error) {
    showTrouble(error.message);
  }
}

async function search(text) {
  showTrouble("");
  try {
    const { people } = await post("/api/patients/find", { text });
    title.textContent =
      people.length === 0 ? "Nobody was found. Try fewer letters." : `${people.length === 1 ? "1 patient" : `${people.length} patients`}:`;
    list.replaceChildren(...people.map(row));
    found.hidden = false;
    new Pager(found);
  } catch (error) {
    showTrouble(error.message);
  }
}

find.addEventListener("click", async () => {
  const text = await askText("Number, name or year of birth", { maxLength: 60 });
  if (text !== null) search(text);
});
document.getElementById("newest")?.addEventListener("click", () => search(""));
