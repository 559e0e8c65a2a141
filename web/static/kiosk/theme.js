// Sets the theme before the first paint; the only thing the kiosk remembers in the browser.
(() => {
  const THEMES = ["day", "glare", "dim"];
  const WORDS = { day: "Day", glare: "Glare", dim: "Dim" };
  const KEY = "dermstation.theme";

  function remembered() {
    let theme = null;
    try {
      theme = localStorage.getItem(KEY);
    } catch {
      // Storage may be switched off; the theme then lasts for one page.
    }
    if (THEMES.includes(theme)) return theme;
    return matchMedia("(prefers-contrast: more)").matches ? "glare" : "day";
  }

  function remember(theme) {
    try {
      localStorage.setItem(KEY, theme);
    } catch {
      // As above.
    }
  }

  function show(theme) {
    const next = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    document.documentElement.dataset.theme = theme;
    const button = document.getElementById("theme");
    if (button === null) return;
    button.hidden = false;
    button.setAttribute("aria-label", `${WORDS[theme]} screen; change to ${WORDS[next]}`);
    document.getElementById("theme-word").textContent = WORDS[theme];
    button.onclick = () => {
      remember(next);
      show(next);
    };
  }

  show(remembered());
  document.addEventListener("DOMContentLoaded", () => show(remembered()));
})();
