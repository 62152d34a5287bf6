// A request, as code to copy. Each snippet sends exactly what the page sends, or says in a comment why it cannot.
import { Numeral } from "./numbers.js";
import { toJson } from "./request.js";

const KEY_VARIABLE = "USAGE_API_KEY"; // a key typed here does not end up in somebody's shell history

const WRITERS = { cURL: curl, Python: python, JavaScript: javascript };

export const LANGUAGES = Object.keys(WRITERS);

/** Language -> code, for a request by `toRequest`. */
export function snippets(request) {
  return Object.fromEntries(Object.entries(WRITERS).map(([language, write]) => [language, write(request)]));
}

function curl({ url, record, key }) {
  const parts = [`curl -i ${quoted(url)}`, "-H 'Content-Type: application/json'"];
  if (key) parts.push(`-H "${key.header}: $${KEY_VARIABLE}"`);
  parts.push(`-d ${quoted(toJson(record))}`);
  return `${parts.join(" \\\n  ")}\n`;
}

/** For a POSIX shell nothing is special between single quotes but the quote itself. */
const quoted = (text) => `'${text.replaceAll("'", String.raw`'\''`)}'`;

// What the published client can say: its model's fields, and a key in a header.
const CLIENT_FIELDS = ["email", "metric", "quantity"];
const KEY_FIELD = "idempotencyKey";
const BARE_KEY = /^[!#-~]([ -~]*[!-~])?$/;
const HEADER_TEXT = /^[ -~]+$/;

function python({ base, projectId, record, key }) {
  const fields = Object.fromEntries(record);
  const { quantity } = fields;
  if (quantity instanceof Numeral && !quantity.isInteger && !quantity.fitsDouble) {
    return "# mudbase sends fractions as doubles, which would round this quantity.\n# Use cURL or JavaScript.\n";
  }
  const given = CLIENT_FIELDS.filter((name) => name in fields);
  const header = idempotencyHeader(fields[KEY_FIELD]);
  const left = Object.keys(fields).filter((name) => !CLIENT_FIELDS.includes(name) && !(name === KEY_FIELD && header));
  const access = key
    ? `,\n    header_name=${literal(key.header)},\n    header_value=os.environ["${KEY_VARIABLE}"],\n`
    : "";
  const host = `Configuration(host=${literal(base)})`;
  const call = [literal(projectId), "request", ...(header ? [`_headers={"Idempotency-Key": ${literal(header)}}`] : [])];
  return [
    ...(left.length ? [`# mudbase has no way to send ${left.join(" and ")}: left out here.`] : []),
    ...(key ? ["import os", ""] : []),
    "from mudbase import ApiClient, BillingApi, Configuration, RecordUsageRequest",
    "",
    `client = ApiClient(${access ? `\n    ${host}${access}` : host})`,
    "request = RecordUsageRequest(",
    ...given.map((name) => `    ${name}=${literal(fields[name])},`),
    ")",
    `answer = BillingApi(client).record_usage(${call.join(", ")})`,
    "print(answer.message)",
    "",
  ].join("\n");
}

/** A text as JSON writes it, and a JSON number, mean the same in Python. */
const literal = (value) => toJson(value);

/** The key as a header's value, a quoted string where it has to be; null where no header can hold it. */
function idempotencyHeader(key) {
  if (key === undefined || !HEADER_TEXT.test(key)) return null;
  return BARE_KEY.test(key) ? key : `"${key.replace(/["\\]/g, String.raw`\$&`)}"`;
}

function javascript({ url, record, key }) {
  const headers = ['"Content-Type": "application/json"'];
  if (key) headers.push(`${JSON.stringify(key.header)}: process.env.${KEY_VARIABLE}`);
  const body = fitsDoubles(record)
    ? [`  body: JSON.stringify(${toJson(record, "  ", spellName)}),`]
    : ["  // As text: JavaScript's own numbers would round.", `  body: ${JSON.stringify(toJson(record))},`];
  return [
    `const response = await fetch(${JSON.stringify(url)}, {`,
    '  method: "POST",',
    `  headers: { ${headers.join(", ")} },`,
    ...body,
    "});",
    "console.log(response.status, await response.json());",
    "",
  ].join("\n");
}

function fitsDoubles(value) {
  if (value instanceof Numeral) return value.fitsDouble;
  return !Array.isArray(value) || (isUnambiguous(value) && value.every(([, item]) => fitsDoubles(item)));
}

/** An object would keep only one of two members of the same name, and the server would not see the mistake. */
const isUnambiguous = (members) => new Set(members.map(([name]) => name)).size === members.length;

/** A member's name in an object literal, where this one would set the prototype. */
const spellName = (name) => (name === "__proto__" ? '["__proto__"]' : JSON.stringify(name));
