// The page's one place for what went wrong, `#trouble`: an alert in the box's own words, or nothing.

const trouble = document.getElementById("trouble");

/** Show a sentence; hide the place when it is empty. */
export function showTrouble(sentence) {
  trouble.textContent = sentence;
  trouble.hidden = sentence === "";
}

/** Whether a sentence is shown. */
export function isTroubleShown() {
  return !trouble.hidden;
}
