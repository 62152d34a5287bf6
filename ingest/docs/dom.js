// Building elements; text stays text, so nothing that a server or a person writes becomes markup.

/** An element with attributes, listeners (`onclick`) and children; what is undefined or null is left out. */
export function element(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (typeof value === "boolean") node.toggleAttribute(key, value);
    else if (value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.flat().filter((child) => child !== null));
  return node;
}

/** A button that is no submit button. */
export const button = (content, onclick, attributes = {}) =>
  element("button", { type: "button", class: "quiet", onclick, ...attributes }, content);

export const byId = (id) => document.getElementById(id);

/** A sentence of the contract, in which `backticks` mean code. */
export function prose(text) {
  return text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
}

/** A table that scrolls inside itself where it is wider than the page. */
export function table(caption, heads, rows) {
  const header = element(
    "tr",
    {},
    heads.map((head) => element("th", { scope: "col" }, head)),
  );
  const body = rows.map(([first, ...rest]) =>
    element(
      "tr",
      {},
      element("th", { scope: "row" }, first),
      rest.map((cell) => element("td", {}, cell)),
    ),
  );
  return element(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    element(
      "table",
      {},
      element("caption", { class: "unseen" }, caption),
      element("thead", {}, header),
      element("tbody", {}, body),
    ),
  );
}
