// What the patient agrees to: saved all at once, also when it is nothing.

import { post } from "./api.js";
import { showTrouble } from "./trouble.js";

const tiers = document.getElementById("tiers");

document.getElementById("save").addEventListener("click", async () => {
  showTrouble("");
  try {
    const answer = await post(tiers.dataset.path, {
      tiers: [...tiers.querySelectorAll("input:checked")].map((box) => box.value),
      how: document.querySelector("input[name=how]:checked").value,
      is_guardian: document.querySelector("input[name=guardian]").checked,
    });
    location.assign(answer.go);
  } catch (error) {
    showTrouble(error.message);
  }
});
