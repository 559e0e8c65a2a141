// Opens a dialog from `[data-opens]` and closes it from `[data-closes]`, also where those came later; Escape closes too.

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-opens]");
  if (opener !== null) document.getElementById(opener.dataset.opens).showModal();
  event.target.closest("[data-closes]")?.closest("dialog").close();
});
