// The button for the other theme; the choice is kept where theme.js looks for it.

const root = document.documentElement;
const system = matchMedia("(prefers-color-scheme: dark)");

/** Let a button switch between light and dark; until it is pressed, the system's theme holds. */
export function switchTheme(button) {
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    keep(root.dataset.theme);
    show();
  });
  system.addEventListener("change", show);
  show();
}

const isDark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";

function keep(theme) {
  try {
    localStorage.setItem("theme", theme);
  } catch {
    // Storage is switched off: it holds until the page is left.
  }
}
