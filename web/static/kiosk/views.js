// On a small screen, one panel at a time: the buttons of `.views` choose which. On a large one all are seen.

/** Show one panel by name. */
export function showPanel(name) {
  for (const panel of document.querySelectorAll("[data-panel]")) {
    panel.classList.toggle("is-shown", panel.dataset.panel === name);
  }
  for (const button of document.querySelectorAll("[data-view]")) {
    button.setAttribute("aria-pressed", String(button.dataset.view === name));
  }
}

for (const button of document.querySelectorAll("[data-view]")) {
  button.addEventListener("click", () => showPanel(button.dataset.view));
}
