// The properties of a record: rows of name, type and value.
import { button, element } from "./dom.js";
import { PROPERTY_TYPES } from "./request.js";

const WITHOUT_TEXT = ["true", "false"];

export class PropertyRows {
  #list = element("div", { class: "rows" });
  #add;
  #onChange;

  constructor(onChange) {
    this.#onChange = onChange;
    this.#add = button("Add a property", () => this.#addByHand());
    this.element = element("div", {}, this.#list, this.#add);
  }

  /** Where somebody starts to correct: the first name, or the button that adds one. */
  get firstControl() {
    return this.#list.querySelector("input") ?? this.#add;
  }

  /** [{name, type, text}] */
  read() {
    return [...this.#list.children].map((row) => {
      const [name, type, text] = row.querySelectorAll("input, select");
      return { name: name.value, type: type.value, text: text.value };
    });
  }

  /** Show these rows instead of what is there. */
  fill(rows) {
    this.#list.replaceChildren(...rows.map((row) => this.#row(row)));
  }

  #addByHand() {
    const row = this.#row({ name: "", type: "text", text: "" });
    this.#list.append(row);
    row.querySelector("input").focus();
    this.#onChange();
  }

  #row({ name, type, text }) {
    const value = input("Value", text);
    const types = PROPERTY_TYPES.map((one) => element("option", { selected: one === type }, one));
    const choice = element("select", { "aria-label": "Type", name: "properties" }, types);
    const adapt = () => {
      value.disabled = WITHOUT_TEXT.includes(choice.value);
    };
    choice.addEventListener("input", adapt);
    adapt();
    const row = element(
      "div",
      { class: "row", role: "group", "aria-label": "Property" },
      input("Name", name),
      choice,
      value,
      button("✕", () => this.#remove(row), { "aria-label": "Remove this property" }),
    );
    return row;
  }

  #remove(row) {
    const beside = row.nextElementSibling ?? row.previousElementSibling;
    row.remove();
    (beside?.querySelector("input") ?? this.#add).focus();
    this.#onChange();
  }
}

const input = (label, value) =>
  element("input", {
    "aria-label": label,
    placeholder: label.toLowerCase(),
    name: "properties",
    value,
    autocomplete: "off",
    spellcheck: "false",
  });
