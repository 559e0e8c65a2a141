// The lead's acts on people and secrets: each posts once, with the PIN typed just now where the box asks for it.

import { postFresh } from "./fresh_pin.js";
import { askNewPin } from "./pin_pad.js";
import { showTrouble } from "./trouble.js";
import { askPhrase, askText } from "./typing.js";

async function act(path, body) {
  showTrouble("");
  try {
    const answer = await postFresh(path, body);
    if (answer?.go) location.replace(answer.go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    showTrouble(error.message);
  }
}

async function newPin(whose) {
  const typed = await askNewPin(whose);
  if (typed === null) return null;
  if (typed.pin === typed.again) return typed.pin;
  showTrouble("The two PINs differ. Please choose the PIN again.");
  return null;
}

const ACTS = {
  async add() {
    const name = document.getElementById("name").value.trim();
    const role = document.querySelector("input[name=role]:checked")?.value;
    if (name === "" || role === undefined) return showTrouble("Please type the name and choose what they do.");
    const pin = await newPin(`PIN of ${name}`);
    return pin === null ? undefined : act("/api/people", { name, role, pin });
  },
  async role({ user }) {
    return act(`/api/people/${user}/role`, { role: document.querySelector("input[name=role]:checked").value });
  },
  async pin({ user, name }) {
    const pin = await newPin(`New PIN of ${name}`);
    return pin === null ? undefined : act(`/api/people/${user}/pin`, { pin });
  },
  async remove({ user }) {
    return act(`/api/people/${user}/remove`);
  },
  async "lead-pin"({ user, name }) {
    const phrase = await askPhrase();
    if (phrase === null) return undefined;
    const pin = await newPin(`New PIN of ${name}`);
    return pin === null ? undefined : act("/api/lead-pin", { user_id: user, phrase, pin });
  },
  async phrase() {
    const typed = await askText("The new phrase, as you wrote it down", { maxLength: 120, isSecret: true });
    if (typed === null) return undefined;
    const phrase = await askPhrase("Now the old phrase");
    return phrase === null ? undefined : act("/api/secrets/phrase", { phrase, new_phrase: typed });
  },
  async sheets() {
    const phrase = await askPhrase();
    return phrase === null ? undefined : act("/api/secrets/sheets", { phrase });
  },
  async "revoke-fob"({ fob }) {
    return act(`/api/secrets/fobs/${fob}/revoke`);
  },
  async "box-pin"() {
    const pin = await newPin("Box PIN");
    if (pin === null) return undefined;
    const phrase = await askPhrase();
    return phrase === null ? undefined : act("/api/secrets/pin", { phrase, pin });
  },
  async "box-pin-off"() {
    return act("/api/secrets/pin/off");
  },
};

for (const button of document.querySelectorAll("[data-act]")) {
  button.addEventListener("click", () => ACTS[button.dataset.act](button.dataset));
}
