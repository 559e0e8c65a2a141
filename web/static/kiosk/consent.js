// What the patient agrees to: saved all at once, also when it is nothing.

import { post } from "./api.js";

const tiers = document.getElementById("tiers");
const trouble = document.getElementById("trouble");

document.getElementById("save").addEventListener("click", async () => {
  trouble.hidden = true;
  try {
    const answer = await post(tiers.dataset.path, {
      tiers: [...tiers.querySelectorAll("input:checked")].map((box) => box.value),
      how: document.querySelector("input[name=how]:checked").value,
      is_guardian: document.querySelector("input[name=guardian]").checked,
    });
    location.assign(answer.go);
  } catch (error) {
    trouble.textContent = error.message;
    trouble.hidden = false;
  }
});
