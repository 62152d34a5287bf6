// The same in Node: fastify validates, amqplib publishes on a confirm channel, and the answer waits for the confirm.

const amqp = require("amqplib");
const fastify = require("fastify");

const QUEUE = "bench.node";
const SCHEMA = {
  body: {
    type: "object",
    required: ["email", "metric", "quantity"],
    properties: {
      email: { type: "string", maxLength: 254, pattern: "^[^@\\s]+@[^@\\s]+$" },
      metric: { type: "string", minLength: 1, maxLength: 128 },
      quantity: { type: "number" },
    },
  },
};

async function main(port, url) {
  const connection = await amqp.connect(url);
  const channel = await connection.createConfirmChannel();
  await channel.assertQueue(QUEUE, { durable: true, arguments: { "x-queue-type": "quorum" } });
  const app = fastify();
  app.post("/api/billing/public/projects/:projectId/usage", { schema: SCHEMA }, async (request) => {
    const body = Buffer.from(JSON.stringify({ project: request.params.projectId, ...request.body }));
    await new Promise((resolve, reject) =>
      channel.sendToQueue(QUEUE, body, { persistent: true, mandatory: true }, (error) =>
        error ? reject(error) : resolve(),
      ),
    );
    return { message: "Usage recorded successfully" };
  });
  await app.listen({ host: "127.0.0.1", port });
}

main(Number(process.argv[2]), process.argv[3]);
