// The form: one input for each field of the contract, with its rule and its error beside it.
import { button, byId, element, prose } from "./dom.js";
import { fieldOf } from "./field.js";
import { PropertyRows } from "./rows.js";

export class RecordForm {
  #form;
  #fields;
  #rows;

  /** Build it into `form`; `apiKey` is the contract's, or null. */
  constructor(form, fields, apiKey, { onChange, onSend, examples }) {
    this.#form = form;
    this.#fields = fields;
    this.#rows = new PropertyRows(() => this.#changed("properties", onChange));
    form.append(
      ...exampleButtons(examples, (texts) => {
        this.fill(texts);
        onChange();
      }),
      ...this.#groups(apiKey),
      element("button", { type: "submit", id: "send", class: "primary" }, "Send"),
    );
    form.addEventListener("input", (event) => this.#changed(event.target.name, onChange));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      onSend();
    });
  }

  #groups(apiKey) {
    const one = (field) => fieldOf(field, this.#rows.element);
    const key = apiKey && {
      ...apiKey,
      name: "apiKey",
      rule: `goes into the header ${apiKey.header}, and is kept nowhere`,
    };
    const optional = this.#fields.filter(({ required }) => !required);
    return [
      ...this.#fields.filter(({ place }) => place === "path").map(one),
      ...(key ? [one(key)] : []),
      ...this.#fields.filter(({ place, required }) => place === "body" && required).map(one),
      element("details", { open: true, id: "optional" }, element("summary", {}, "Optional fields"), optional.map(one)),
    ];
  }

  /** What is filled in: {texts, properties, apiKey}. */
  read() {
    const texts = Object.fromEntries(this.#inputs().map((input) => [input.name, input.value]));
    const { apiKey = "", ...others } = texts;
    return { texts: others, properties: this.#rows.read(), apiKey };
  }

  #inputs() {
    return [...this.#form.querySelectorAll(".entry input")];
  }

  /** Put texts into the fields, and nothing into those not named; the API key stays. */
  fill({ properties = [], ...texts }) {
    for (const input of this.#inputs()) {
      if (input.name !== "apiKey") input.value = texts[input.name] ?? "";
    }
    this.#rows.fill(properties);
    this.clearErrors();
  }

  /** Show each field's error beside it, and go to the first; returns how many have their place here. */
  showErrors(details) {
    this.clearErrors();
    const errors = Object.entries(details).filter(([name]) => byId(`${name}-error`));
    for (const [name, sentence] of errors) this.#mark(name, sentence);
    this.#goTo(this.#form.querySelector("[aria-invalid=true]"));
    return errors.length;
  }

  #mark(name, sentence) {
    const error = byId(`${name}-error`);
    error.replaceChildren(...prose(String(sentence)));
    error.hidden = false;
    const control = byId(name);
    const target = control.matches("fieldset") ? this.#rows.firstControl : control;
    target.setAttribute("aria-invalid", "true");
    target.setAttribute("aria-describedby", error.id);
    control.closest(".field").classList.add("wrong");
  }

  #goTo(control) {
    if (!control) return;
    control.closest("details")?.setAttribute("open", "");
    control.focus();
  }

  /** Take all errors away. */
  clearErrors() {
    for (const { name } of [...this.#fields, { name: "apiKey" }]) this.#unmark(name);
  }

  #unmark(name) {
    const error = byId(`${name}-error`);
    if (!error || error.hidden) return;
    error.hidden = true;
    error.replaceChildren();
    const field = byId(name).closest(".field");
    field.classList.remove("wrong");
    for (const control of field.querySelectorAll("[aria-invalid]")) {
      control.removeAttribute("aria-invalid");
      control.setAttribute("aria-describedby", `${name}-hint`);
    }
  }

  #changed(name, onChange) {
    if (name) this.#unmark(name);
    onChange();
  }

  /** While a request is under way, a second click does not send another. */
  set busy(busy) {
    byId("send").setAttribute("aria-disabled", String(busy));
    byId("send").textContent = busy ? "Sending …" : "Send";
  }

  get busy() {
    return byId("send").getAttribute("aria-disabled") === "true";
  }
}

/** Buttons that fill the form in; `groups` is {heading: {name: what to fill in}}. */
function exampleButtons(groups, choose) {
  return Object.entries(groups).map(([heading, examples], place) => {
    const buttons = Object.entries(examples).map(([name, texts]) =>
      button(name, () => choose(texts), { class: "chip" }),
    );
    const id = `examples-${place}`;
    return element(
      "div",
      { class: "examples", role: "group", "aria-labelledby": id },
      element("span", { id }, heading),
      buttons,
    );
  });
}
