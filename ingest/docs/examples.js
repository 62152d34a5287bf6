// Records to start from: one that is right, and some that are wrong on purpose.

const DAY = 86_400_000; // ms

/** Heading -> name -> what to fill in; `valid` is the contract's own example. */
export function examplesFor(valid) {
  const right = {
    "Three fields": valid,
    "Every field": {
      ...valid,
      quantity: "12345678901234567.89",
      idempotencyKey: "order-42",
      timestamp: new Date().toISOString(),
      properties: [
        { name: "region", type: "text", text: "eu-north" },
        { name: "retries", type: "number", text: "3" },
        { name: "sandbox", type: "true", text: "" },
      ],
    },
  };
  const wrong = {
    "No number": { ...valid, quantity: "1_000" },
    "Too fine": { ...valid, quantity: "0.0000000001" },
    "Too old": { ...valid, timestamp: new Date(Date.now() - 400 * DAY).toISOString() },
    "All of it": { ...valid, email: "nobody", metric: "\t", quantity: "1e400", timestamp: "yesterday" },
  };
  return { "Fill in": right, "Wrong on purpose": wrong };
}
