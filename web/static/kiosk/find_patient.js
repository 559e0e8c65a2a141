// Finds patients by typed words and lists them; a row opens the patient, or says whose visit it is.

import { post } from "./api.js";
import { Pager } from "./pager.js";
import { askText } from "./typing.js";

const find = document.getElementById("find");
const chooses = find.dataset.chooses;
const found = document.getElementById("found");
const title = document.getElementById("found-title");
const list = found.querySelector("ul");
const trouble = document.getElementById("trouble");

function say(sentence) {
  trouble.textContent = sentence;
  trouble.hidden = sentence === "";
}

function part(name, text) {
  const made = document.createElement(name);
  made.textContent = text;
  return made;
}

function row(person) {
  const item = document.createElement("li");
  const way = document.createElement(chooses === undefined ? "a" : "button");
  way.className = "button way-on";
  const words = document.createElement("span");
  words.append(part("b", person.title), part("span", [person.details, person.seen].filter(Boolean).join(" · ")));
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
  say("");
  try {
    location.assign((await post(chooses, { subject_id: person.subject_id })).go);
  } catch (error) {
    say(error.message);
  }
}

async function search(text) {
  say("");
  try {
    const { people } = await post("/api/patients/find", { text });
    title.textContent =
      people.length === 0 ? "Nobody was found. Try fewer letters." : `${people.length === 1 ? "1 patient" : `${people.length} patients`}:`;
    list.replaceChildren(...people.map(row));
    found.hidden = false;
    new Pager(found);
  } catch (error) {
    say(error.message);
  }
}

find.addEventListener("click", async () => {
  const text = await askText("Number, name or year of birth", { maxLength: 60 });
  if (text !== null) search(text);
});
document.getElementById("newest")?.addEventListener("click", () => search(""));
