// Making a key fob: shows the sticks that are in, asks for a name and the phrase, and has the box write the key.

import { get } from "./api.js";
import { stickButton, stickRow } from "./elements.js";
import { postFresh } from "./fresh_pin.js";
import { showTrouble } from "./trouble.js";
import { askPhrase, askText } from "./typing.js";

const POLL_MS = 700;

const list = document.getElementById("sticks");
const none = document.getElementById("no-stick");
let shown = "";
let isBusy = false;

function row(stick) {
  const make = { isPrimary: true, isDisabled: !stick.is_writable, act: () => start(stick) };
  return stickRow(stick, stickButton("Make it a key fob", make));
}

function show({ sticks }) {
  none.hidden = sticks.length > 0;
  const now = JSON.stringify(sticks);
  if (now === shown) return;
  shown = now;
  list.replaceChildren(...sticks.map(row));
}

async function start({ path }) {
  if (isBusy) return;
  showTrouble("");
  const name = await askText("A name for this key fob, such as whose it is", { maxLength: 40 });
  if (name === null) return;
  const phrase = await askPhrase();
  if (phrase === null) return;
  isBusy = true;
  try {
    const answer = await postFresh("/api/secrets/fobs", { path, name, phrase });
    if (answer?.go) location.replace(answer.go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    showTrouble(error.message);
  }
  isBusy = false;
}

show(JSON.parse(list.dataset.first));
setInterval(async () => {
  try {
    show(await get("/api/secrets/fobs/sticks"));
  } catch (error) {
    if (error.status !== 0) showTrouble(error.message);
  }
}, POLL_MS);
