// Recording straight on the queue, from Node:
//
//   npm install --prefix examples
//   AMQP_URL=amqp://guest:guest@127.0.0.1:5672/ node examples/producer.mjs order-47 195.84

import { createHash, randomUUID } from "node:crypto";
import { pathToFileURL } from "node:url";
import amqp from "amqplib";

const NAMESPACE = Buffer.from("81fa8e1e-4880-5883-afd0-8b7e9655a9b0".replaceAll("-", ""), "hex");
const QUEUE = "usage.events";
const CONFIRM_MS = 2000;

/** The id of the event that a key names within a project, before anything is sent: RFC 9562, version 5. */
export function eventId(projectId, key) {
  // 24 hexadecimal digits are an ObjectId, which has one spelling.
  const project = /^[0-9a-f]{24}$/i.test(projectId) ? projectId.toLowerCase() : projectId;
  const bytes = createHash("sha1").update(NAMESPACE).update(`${project}:${key}`, "utf8").digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

/** Publishes events, each of which is safe when `record` resolves. */
export class Producer {
  static async connect(url) {
    const connection = await amqp.connect(url, { heartbeat: 10 });
    return new Producer(connection, await connection.createConfirmChannel());
  }

  constructor(connection, channel) {
    this.connection = connection;
    this.channel = channel;
    this.returned = new Set();
    // What no queue takes comes back, and is confirmed all the same: the return is always the first of the two.
    channel.on("return", (message) => this.returned.add(message.properties.messageId));
    // Whoever waits for a confirm is told by its callback, or by the time limit.
    channel.on("error", () => {});
    connection.on("error", () => {});
  }

  /**
   * Resolves when the broker has the event on disk. After any rejection, record the same event under the same key
   * once more, on a new connection if this one is gone: it counts once, however often it arrives.
   */
  async record(event) {
    const messageId = randomUUID(); // names this attempt, and nothing else
    const options = { persistent: true, mandatory: true, contentType: "application/json", messageId };
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error("no confirm in time: it may or may not arrive")), CONFIRM_MS);
      this.channel.publish("", QUEUE, Buffer.from(JSON.stringify(event)), options, (error) => {
        clearTimeout(timer);
        error ? reject(error) : resolve();
      });
    });
    if (this.returned.delete(messageId)) {
      throw new Error("no queue takes it: start ingest or a worker, which declare the queue");
    }
  }

  async close() {
    await this.channel.close();
    await this.connection.close();
  }
}

async function main(key, quantity) {
  const producer = await Producer.connect(process.env.AMQP_URL ?? "amqp://guest:guest@127.0.0.1:5672/");
  const event = {
    projectId: "proj_nCBo0AB7UWpj",
    email: "amari_koss69@northwind.dev",
    metric: "program quantify",
    quantity, // a string: a number would be rounded to a float
    idempotencyKey: key,
  };
  await producer.record(event);
  await producer.close();
  console.log(eventId(event.projectId, key));
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await main(...process.argv.slice(2));
}
