// The lead's proposal to erase a patient, with the PIN typed just now.

import { postFresh } from "./fresh_pin.js";
import { showTrouble } from "./trouble.js";

const button = document.getElementById("propose");

button?.addEventListener("click", async () => {
  showTrouble("");
  try {
    const reason = document.querySelector("input[name=reason]:checked").value;
    const answer = await postFresh(button.dataset.path, { reason, digest: button.dataset.digest });
    if (answer?.go) location.assign(answer.go);
  } catch (error) {
    if (error.status === 401) location.replace("/sign-in");
    showTrouble(error.message);
  }
});
