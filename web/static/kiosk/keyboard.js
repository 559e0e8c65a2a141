// Keys on the screen: a kiosk has no keyboard, and its browser brings none.

const ROWS = ["1234567890", "qwertyuiop", "asdfghjkl'", "⇧zxcvbnm⌫", ",␣.?"];
const NAMES = { "⇧": "Shift", "⌫": "Delete", "␣": "Space" };

/** Put keys into `root` that type into `input`; keys without a shift type small letters only. */
export function attachKeyboard(root, input, rows = ROWS) {
  const hasShift = rows.some((row) => row.includes("⇧"));
  let isShifted = hasShift;

  function shift(isOn) {
    if (!hasShift) return;
    isShifted = isOn;
    for (const key of root.querySelectorAll(".key.is-letter")) {
      key.textContent = isOn ? key.dataset.key.toUpperCase() : key.dataset.key;
    }
    root.querySelector('[data-key="⇧"]').setAttribute("aria-pressed", String(isOn));
  }

  function type(text) {
    const start = input.selectionStart ?? input.value.length;
    const end = input.selectionEnd ?? start;
    if (input.value.length - (end - start) + text.length > input.maxLength) return;
    input.setRangeText(text, start, end, "end");
  }

  function erase() {
    const { selectionStart: start, selectionEnd: end } = input;
    if (start === end && start > 0) input.setRangeText("", start - 1, end, "end");
    else input.setRangeText("", start, end, "end");
  }

  function press(key) {
    if (key === "⇧") return shift(!isShifted);
    if (key === "⌫") erase();
    else type(key === "␣" ? " " : isShifted ? key.toUpperCase() : key);
    input.dispatchEvent(new Event("input", { bubbles: true }));
    return shift(input.value === "");
  }

  for (const row of rows) {
    const line = document.createElement("div");
    line.className = "keys";
    for (const key of row) line.append(keyButton(key));
    root.append(line);
  }
  // The caret stays where it is while keys are pressed.
  root.addEventListener("pointerdown", (event) => event.preventDefault());
  root.addEventListener("mousedown", (event) => event.preventDefault());
  root.addEventListener("click", (event) => {
    const button = event.target.closest(".key");
    if (button !== null) press(button.dataset.key);
  });
  shift(true);
  return { restart: () => shift(true) };
}

function keyButton(key) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "button key";
  button.dataset.key = key;
  button.tabIndex = -1;
  button.textContent = NAMES[key] ?? key;
  if (/[a-z]/.test(key)) button.classList.add("is-letter");
  if (key === "␣") button.classList.add("is-space");
  if (key === "⇧" || key === "⌫") button.classList.add("is-wide");
  return button;
}
