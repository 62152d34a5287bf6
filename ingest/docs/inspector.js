// What came back: status, time, body, headers, what was sent, and the last few before it.
import { copyButton } from "./copy.js";
import { button, element } from "./dom.js";
import { block } from "./highlight.js";
import { toJson } from "./request.js";
import { tabs } from "./tabs.js";

const KEPT = 5;

export class Inspector {
  #summary = element("div", { class: "summary" });
  #panels = { Body: element("div"), Headers: element("div"), Sent: element("div") };
  #parts;
  #history = element("ol", { class: "history" });
  #past = element("div", { hidden: true });
  #entries = [];
  #countdown;

  constructor(root) {
    const list = tabs("The answer", "answer", this.#panels);
    this.#parts = element("div", { hidden: true }, list, Object.values(this.#panels));
    this.#past.append(element("h4", {}, "Sent from here"), this.#history);
    const nothing = [element("strong", {}, "No request yet"), "Send one to see the whole answer here."];
    this.#summary.append(element("p", { class: "nothing" }, nothing));
    root.append(element("h3", { id: "inspector-title" }, "Inspector"), this.#summary, this.#parts, this.#past);
  }

  /** Show what became of a request, and keep it. `answer` is what `send` resolves to, or null where there was none. */
  add(request, answer, sentence) {
    const entry = { request, answer, sentence, at: new Date() };
    this.#entries = [entry, ...this.#entries].slice(0, KEPT);
    this.#show(entry);
  }

  #show(entry) {
    clearInterval(this.#countdown);
    const { request, answer, sentence } = entry;
    const measured = answer ? [`${answer.ms.toFixed(0)} ms`, `${sizeOf(answer.text)} bytes`] : [];
    this.#summary.replaceChildren(
      element("div", { class: "line" }, pill(answer), measured.map(measure)),
      element("p", { class: "sentence" }, sentence),
      ...this.#usageId(answer),
      ...this.#retry(entry),
    );
    this.#panels.Body.replaceChildren(answer ? block(pretty(answer.text), "Body") : "Nothing came back.");
    this.#panels.Headers.replaceChildren(headerList(answer?.headers ?? []));
    this.#panels.Sent.replaceChildren(block(asSent(request), "What was sent"));
    this.#parts.hidden = false;
    this.#past.hidden = this.#entries.length < 2;
    this.#history.replaceChildren(...this.#entries.map((one) => this.#line(one, one === entry)));
  }

  #usageId(answer) {
    const id = headerOf(answer, "usage-id");
    if (!id) return [];
    const copy = copyButton(() => id, "Copy the Usage-Id");
    return [element("p", { class: "usage-id" }, element("span", {}, "Usage-Id"), element("code", {}, id), copy)];
  }

  /** When to try again, counted down. */
  #retry({ answer, at }) {
    const seconds = Number(headerOf(answer, "retry-after"));
    if (!seconds) return [];
    const line = element("p", { class: "retry" });
    const tell = () => {
      const left = Math.ceil(seconds - (Date.now() - at) / 1000);
      line.textContent = left > 0 ? `Try again in ${left} s.` : "Try again now.";
      if (left <= 0) clearInterval(this.#countdown);
    };
    this.#countdown = setInterval(tell, 1000);
    tell();
    return [line];
  }

  #line(entry, isShown) {
    const fields = Object.fromEntries(entry.request.record);
    const what = ["metric", "quantity"]
      .map((name) => fields[name]?.text ?? fields[name])
      .filter((text) => text !== undefined);
    const content = [
      pill(entry.answer),
      element("span", { class: "what" }, what.join(" · ")),
      element("time", {}, entry.at.toLocaleTimeString()),
    ];
    const current = isShown ? "true" : undefined;
    return element(
      "li",
      {},
      button(content, () => this.#show(entry), { "aria-current": current }),
    );
  }
}

const CLASSES = { 2: "good", 4: "refused", 5: "down" };

/** A status in its colour, which says nothing that the words do not. */
export function pill(answer) {
  if (answer === null) return element("span", { class: "pill down" }, "No answer");
  const kind = CLASSES[String(answer.status)[0]] ?? "";
  return element("span", { class: `pill ${kind}` }, `${answer.status} ${answer.reason ?? ""}`.trim());
}

const measure = (text) => element("span", { class: "measure" }, text);
const sizeOf = (text) => new TextEncoder().encode(text).length;
const headerOf = (answer, name) => answer?.headers.find(([one]) => one === name)?.[1];

function pretty(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

function headerList(headers) {
  return element(
    "dl",
    { class: "header-list" },
    headers.flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, value)]),
  );
}

function asSent({ url, record, key }) {
  const { pathname, host } = new URL(url);
  const head = [`POST ${pathname} HTTP/1.1`, `Host: ${host}`, "Content-Type: application/json"];
  if (key) head.push(`${key.header}: ••••••••`);
  return `${head.join("\n")}\n\n${toJson(record)}`;
}
