// Makes elements from words, never from markup.

/** Make an element with these properties, by their names in the DOM. */
export function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

/** Make the row of a stick that is in: its name, what is said of it, and buttons. */
export function stickRow(stick, ...buttons) {
  const row = element("li", { className: "stick" });
  const about = element("div");
  const hint = element("span", { className: "hint", textContent: stick.words });
  about.append(element("b", { textContent: stick.label }), hint);
  row.append(about, ...buttons);
  return row;
}

/** Make a button of such a row. */
export function stickButton(words, { isPrimary = false, isDisabled = false, act }) {
  const className = isPrimary ? "button is-primary" : "button";
  const button = element("button", { type: "button", className, textContent: words, disabled: isDisabled });
  button.addEventListener("click", act);
  return button;
}
