// Tabs, as the ARIA Authoring Practices describe them: arrow keys move, one tab is in the order of Tab.
import { button, element } from "./dom.js";

const STEPS = { ArrowRight: 1, ArrowLeft: -1 };

/** Tabs over panels that `panels` (name -> element) holds; returns the list of tabs, for the panels to be put below. */
export function tabs(label, id, panels) {
  const list = element("div", { role: "tablist", "aria-label": label, class: "tabs" });
  const names = Object.keys(panels);
  const buttons = names.map((name, place) => {
    const panel = panels[name];
    panel.id = `${id}-panel-${place}`;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", `${id}-tab-${place}`);
    const attributes = { role: "tab", class: "tab", id: `${id}-tab-${place}`, "aria-controls": panel.id };
    return button(name, () => choose(place), attributes);
  });

  function choose(chosen) {
    buttons.forEach((tab, place) => {
      tab.setAttribute("aria-selected", String(place === chosen));
      tab.tabIndex = place === chosen ? 0 : -1;
      panels[names[place]].hidden = place !== chosen;
    });
  }

  list.addEventListener("keydown", (event) => {
    const step = STEPS[event.key];
    if (!step) return;
    const next = (buttons.indexOf(event.target) + step + buttons.length) % buttons.length;
    choose(next);
    buttons[next].focus();
    event.preventDefault();
  });
  list.append(...buttons);
  choose(0);
  return list;
}
