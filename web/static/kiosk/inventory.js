// Writes the list of what is kept to a stick.

import { post } from "./api.js";

const say = document.getElementById("say");

document.getElementById("write").addEventListener("click", async () => {
  try {
    say.textContent = (await post("/api/upkeep/inventory")).words;
  } catch (error) {
    say.textContent = error.message;
  }
});
