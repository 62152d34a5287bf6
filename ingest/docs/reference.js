// The reference, from the contract alone.
import { copyButton } from "./copy.js";
import { byId, element, prose, table } from "./dom.js";
import { block } from "./highlight.js";
import { pill } from "./inspector.js";

/** Fill every section of the page but "Try it live". */
export function showReference(contract) {
  const single = contract.operation("recordUsage");
  const batch = contract.operation("recordUsageBatch");
  byId("title").textContent = contract.info.title;
  byId("lede").replaceChildren(...prose(contract.info.description));
  byId("endpoint").replaceChildren(...endpoint(single));
  byId("facts").replaceChildren(...facts(contract, single));
  byId("fields-table").replaceChildren(fieldsTable(contract));
  byId("answers-list").replaceChildren(...Object.entries(single.responses).map(answer));
  byId("once-warning").replaceChildren(...prose(single.description));
  byId("once-table").replaceChildren(onceTable(contract, single));
  showBatches(contract, batch);
  byId("access-table").replaceChildren(accessTable(contract, single));
  byId("request-headers").replaceChildren(requestHeaders(single));
  byId("response-headers").replaceChildren(responseHeaders(contract, [single, batch]));
}

function endpoint({ method, path }) {
  return [
    element("span", { class: "method" }, method),
    // A long path may be broken behind its slashes.
    element(
      "code",
      { tabindex: "0", "aria-label": path },
      path.split(/(?<=\/)/).flatMap((step) => [step, element("wbr")]),
    ),
    copyButton(() => path, "Copy the path"),
  ];
}

function facts(contract, operation) {
  const { requestBody } = operation;
  const isOpen = contract.ways(operation).some((way) => way.length === 0);
  return [
    ["Body", Object.keys(requestBody.content).join(", ")],
    ["Size and time", requestBody.description],
    ["Access", isOpen ? "Open: no credential is needed." : "With a credential only."],
  ].map(([term, text]) => element("div", {}, element("dt", {}, term), element("dd", {}, text)));
}

const beneath = (...pieces) => element("span", { class: "beneath" }, pieces);
const code = (text) => element("code", {}, text);
const codes = (texts) => texts.flatMap((text) => [code(text), " "]);

function fieldsTable(contract) {
  const rows = contract.fields().map(({ name, place, required, types, rule }) => {
    const need = required ? element("strong", {}, "required") : "optional";
    return [[code(name), beneath(need, `, ${typeOf(place, types)}`)], prose(rule)];
  });
  return table("Fields of a record", ["Field", "Rule"], rows);
}

const typeOf = (place, types) => (place === "path" ? "in the path" : types.join(" or "));

function answer([status, response]) {
  const bodies = examplesOf(response.content["application/json"]);
  const meant = bodies.map(({ code: word }) => word).filter((word) => word !== undefined);
  const summary = [
    pill({ status }),
    element("span", { class: "codes" }, codes(meant)),
    element("span", { class: "meaning" }, prose(response.description)),
  ];
  const more = [
    element("p", {}, "Headers: ", codes(Object.keys(response.headers))),
    bodies.map((body) => block(shown(body), `Body of a ${status}`)),
  ].flat();
  return element(
    "details",
    { class: "answer" },
    element("summary", {}, summary),
    element("div", { class: "more" }, more),
  );
}

function onceTable(contract, { parameters }) {
  const inBody = contract.fields().find(({ name }) => name === "idempotencyKey");
  const inHeader = parameters.find(({ name }) => name === "Idempotency-Key");
  const rows = [
    [[code(inBody.name), beneath("in the record")], prose(inBody.rule)],
    [[code(inHeader.name), beneath("a header")], prose(inHeader.description)],
  ];
  return table("Where the key goes", ["Key", "Rule"], rows);
}

function showBatches(contract, batch) {
  byId("batch-endpoint").replaceChildren(...endpoint(batch));
  byId("batch-description").replaceChildren(...prose(batch.description));
  byId("batch-facts").replaceChildren(...facts(contract, batch));
  const queries = batch.parameters.filter((parameter) => parameter.in === "query");
  byId("batch-table").replaceChildren(parameterTable("Parameters of a batch", queries));
  const contents = { ...batch.requestBody.content, "The answer": batch.responses["200"].content["application/json"] };
  byId("batch-examples").replaceChildren(
    ...Object.entries(contents).map(([title, content]) =>
      element("div", {}, element("h3", {}, title), block(shown(examplesOf(content)[0]), title)),
    ),
  );
}

const examplesOf = ({ examples }) => Object.values(examples).map(({ value }) => value);
const shown = (value) => (typeof value === "string" ? value : JSON.stringify(value, null, 2));

const OPEN_WAY = [{ id: "open", description: "No credential." }];

function accessTable(contract, operation) {
  const ways = contract.ways(operation).map((way) => (way.length ? way : OPEN_WAY));
  const rows = ways.map((way) => [
    codes(way.map(({ scheme, name, id }) => (scheme ? `Authorization: ${scheme}` : (name ?? id)))),
    way[0].description ?? "",
  ]);
  return table("Ways in", ["Headers", "Credential"], rows);
}

function requestHeaders({ parameters }) {
  return parameterTable(
    "Headers of a request",
    parameters.filter((parameter) => parameter.in === "header"),
  );
}

function parameterTable(caption, parameters) {
  const rows = parameters.map(({ name, description, schema }) => [
    code(name),
    prose(description ?? `One of ${schema.enum.join(", ")}.`),
  ]);
  return table(caption, ["Name", "Rule"], rows);
}

function responseHeaders(contract, operations) {
  const found = new Map(operations.flatMap((operation) => [...contract.responseHeaders(operation)]).reverse());
  const everywhere = Object.keys(operations[0].responses).length;
  const rows = [...found].reverse().map(([name, { description, statuses }]) => {
    const where = statuses.length === everywhere ? "every answer" : statuses.join(", ");
    return [[code(name), beneath(where)], description];
  });
  return table("Headers of an answer", ["Name", "Meaning"], rows);
}
