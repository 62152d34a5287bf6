// The HTTP contract as this server describes it in openapi.json.

const KEY_SCHEME = "apiKey";

/** Fetch and read it; throws an Error with a sentence. */
export async function loadContract() {
  const answer = await fetch("openapi.json");
  if (!answer.ok) throw new Error(`openapi.json: ${answer.status} ${answer.statusText}`);
  return new Contract(await answer.json());
}

export class Contract {
  #document;

  constructor(document) {
    this.#document = document;
  }

  get info() {
    return this.#document.info;
  }

  /** An object, or what it refers to. */
  resolve(node) {
    return node.$ref === undefined
      ? node
      : node.$ref
          .slice(2)
          .split("/")
          .reduce((at, step) => at[step], this.#document);
  }

  /** An operation by its id, with its path and the path's parameters. */
  operation(id) {
    for (const [path, { parameters = [], ...methods }] of Object.entries(this.#document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        if (operation.operationId !== id) continue;
        const all = [...parameters, ...(operation.parameters ?? [])];
        return { ...operation, path, method: method.toUpperCase(), parameters: all };
      }
    }
    throw new Error(`openapi.json has no operation ${id}`);
  }

  /** What a sender fills in for recordUsage: in the path first, then in the record. */
  fields() {
    const { parameters, requestBody } = this.operation("recordUsage");
    const inPath = parameters
      .filter((parameter) => parameter.in === "path")
      .map((parameter) => ({
        name: parameter.name,
        place: "path",
        required: true,
        rule: parameter.description,
        types: typesOf(parameter.schema),
        example: parameter.example,
      }));
    const [content] = Object.values(requestBody.content);
    const record = this.resolve(content.schema);
    const example = content.examples.example1.value;
    const inBody = Object.entries(record.properties).map(([name, schema]) => ({
      name,
      place: "body",
      required: record.required.includes(name),
      rule: schema.description,
      types: typesOf(schema),
      example: example[name],
    }));
    return [...inPath, ...inBody];
  }

  /** The ways in to an operation: for each the schemes that it needs, with their ids. */
  ways(operation) {
    const schemes = this.#document.components.securitySchemes;
    return operation.security.map((way) => Object.keys(way).map((id) => ({ id, ...schemes[id] })));
  }

  /** Under which header an API key is taken for recordUsage: {header, required}; null where none is. */
  apiKey() {
    const ways = this.ways(this.operation("recordUsage"));
    const scheme = ways.flat().find(({ id }) => id === KEY_SCHEME);
    return scheme === undefined ? null : { header: scheme.name, required: ways.every((way) => way.length > 0) };
  }

  /** The headers that an operation's answers carry: name -> {description, statuses}. */
  responseHeaders(operation) {
    const found = new Map();
    for (const [status, response] of Object.entries(operation.responses)) {
      for (const [name, header] of Object.entries(response.headers ?? {})) {
        const entry = found.get(name) ?? { description: this.resolve(header).description, statuses: [] };
        entry.statuses.push(status);
        found.set(name, entry);
      }
    }
    return found;
  }
}

function typesOf(schema) {
  return (schema.anyOf ?? [schema]).map((one) => one.type);
}
