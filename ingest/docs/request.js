// What is filled in, as the HTTP request that is sent.
import { Numeral, isNumeral } from "./numbers.js";

const PRINTABLE_ASCII = /^[!-~]*$/;
const VALUE_OF = {
  text: (text) => text,
  number: (text) => new Numeral(text),
  true: () => true,
  false: () => false,
};

/** The types that a property can be given. */
export const PROPERTY_TYPES = Object.keys(VALUE_OF);

/**
 * What cannot be sent at all, and so cannot be refused by the server: field -> sentence, like its details.
 * `fields` are the contract's, `values` is {texts: {field: text}, properties: [{name, type, text}], apiKey}.
 */
export function problems(fields, values) {
  const found = {};
  for (const { name, place, rule } of fields) {
    // A browser takes these out of a path before anybody sees them.
    if (place === "path" && ["", ".", ".."].includes(values.texts[name])) found[name] = rule;
  }
  const wrong = values.properties.find(({ type, text }) => type === "number" && !isNumeral(text));
  if (wrong) found.properties = `${wrong.name || "a property without a name"} must be a JSON number, or another type`;
  if (!PRINTABLE_ASCII.test(values.apiKey)) found.apiKey = "must be printable ASCII characters without spaces";
  return found;
}

/**
 * The request, which snippets and Send are made from. `path` is a template, `base` the address it stands below.
 * The record is a list of [name, value]: names may stand there twice, and numbers are Numerals.
 */
export function toRequest(fields, values, { base, path, keyHeader }) {
  const inPath = Object.fromEntries(
    fields.filter(({ place }) => place === "path").map(({ name }) => [name, values.texts[name]]),
  );
  const filled = path.replace(/\{(\w+)\}/g, (_, name) => encodeURIComponent(inPath[name].toWellFormed()));
  return {
    base,
    url: base + filled,
    projectId: inPath.projectId,
    record: toRecord(fields, values),
    key: keyHeader && values.apiKey ? { header: keyHeader, value: values.apiKey } : null,
  };
}

function toRecord(fields, { texts, properties }) {
  const members = [];
  for (const { name, place, types } of fields) {
    if (place !== "body") continue;
    if (types.includes("object")) {
      if (properties.length) members.push([name, properties.map((row) => [row.name, VALUE_OF[row.type](row.text)])]);
    } else if (texts[name] !== "") {
      const isNumber = types.includes("number") && isNumeral(texts[name]);
      members.push([name, isNumber ? new Numeral(texts[name]) : texts[name]]);
    }
  }
  return members;
}

/** A record, or a value of one, as JSON; `spell` writes a member's name. */
export function toJson(value, indent = "", spell = JSON.stringify) {
  if (value instanceof Numeral) return value.text;
  if (!Array.isArray(value)) return JSON.stringify(value);
  if (!value.length) return "{}";
  const inner = `${indent}  `;
  const lines = value.map(([name, item]) => `${inner}${spell(name)}: ${toJson(item, inner, spell)}`);
  return `{\n${lines.join(",\n")}\n${indent}}`;
}

/** Send a request. Resolves to {status, reason, headers, text, ms}; rejects when there is no answer. */
export async function send(request) {
  const started = performance.now();
  const answer = await fetch(request.url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(request.key && { [request.key.header]: request.key.value }) },
    body: toJson(request.record),
    cache: "no-store",
    credentials: "omit",
    referrerPolicy: "no-referrer",
  });
  const text = await answer.text();
  return {
    status: answer.status,
    reason: answer.statusText,
    headers: [...answer.headers],
    text,
    ms: performance.now() - started,
  };
}
