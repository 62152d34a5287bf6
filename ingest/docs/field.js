// One field: its label, its input, its rule, and the place for its error.
import { button, element, prose } from "./dom.js";

const LABELS = { apiKey: "API key" };
const INPUT_TYPES = { apiKey: "password" };
const INPUT_MODES = { email: "email", quantity: "decimal" };
const KEY_FIELD = "idempotencyKey";

/** An object is filled in by `rows`, everything else as text. The ids are `name`, `name-hint` and `name-error`. */
export function fieldOf({ name, rule, required, types = [] }, rows) {
  const label = [element("span", {}, LABELS[name] ?? name), required ? null : optionalMark()];
  const hint = element("p", { class: "hint", id: `${name}-hint` }, prose(rule));
  const error = element("p", { class: "error", id: `${name}-error`, hidden: true });
  if (types.includes("object")) {
    const legend = element("legend", {}, label);
    return element("fieldset", { class: "field", id: name, "aria-describedby": hint.id }, legend, hint, rows, error);
  }
  const input = textInput(name, required, hint);
  const entry = element("div", { class: "entry" }, input, name === KEY_FIELD ? newKeyButton(input) : null);
  return element("div", { class: "field" }, element("label", { for: name }, label), entry, hint, error);
}

const optionalMark = () => element("span", { class: "optional" }, "optional");

/** A browser must neither trim nor judge what is typed: the server does. */
function textInput(name, required, hint) {
  return element("input", {
    id: name,
    name,
    required,
    type: INPUT_TYPES[name] ?? "text",
    inputmode: INPUT_MODES[name],
    autocomplete: "off",
    autocapitalize: "off",
    spellcheck: "false",
    "aria-describedby": hint.id,
  });
}

function newKeyButton(input) {
  return button("New key", () => {
    input.value = newKey();
    input.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

/** 128 random bits; crypto.randomUUID is there on secure origins only. */
function newKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return `try-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
