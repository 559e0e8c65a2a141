// The lead's acts on phones, and a look every second at whether one asks to be paired.

import { get, pause } from "./api.js";
import { postFresh } from "./fresh_pin.js";
import { showTrouble } from "./trouble.js";

const shown = document.querySelector("[data-pairing]")?.dataset.pairing;

const PATHS = {
  offer: () => "/api/devices/offer",
  withdraw: () => "/api/devices/withdraw",
  revoke: ({ device }) => `/api/devices/${device}/revoke`,
  approve: ({ asking }) => `/api/devices/asking/${asking}/approve`,
  refuse: ({ asking }) => `/api/devices/asking/${asking}/refuse`,
};

async function act(button) {
  showTrouble("");
  try {
    const answer = await postFresh(PATHS[button.dataset.deviceAct](button.dataset));
    if (answer?.go) location.replace(answer.go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    showTrouble(error.message);
  }
}

async function watch() {
  for (;;) {
    await pause(1000);
    try {
      const { state, asking_id } = await get("/api/devices/pairing");
      if ((state === "asking" ? asking_id : state) !== shown) return location.reload();
    } catch (error) {
      if (error.status === 401) return location.replace("/sign-in");
    }
  }
}

for (const button of document.querySelectorAll("[data-device-act]")) {
  button.addEventListener("click", () => act(button));
}
if (shown !== undefined) watch();
