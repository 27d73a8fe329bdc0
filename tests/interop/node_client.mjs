// The npm clients: `node-hl7-client` and `@medplum/hl7`. Reads one order as JSON from standard input: which library,
// how, where to, and the messages in base64. Writes one JSON document: what each answer says as the library reads it,
// and the messages as the library put them on the wire.
import { createRequire } from "node:module";
import { join } from "node:path";

const PATIENCE_MS = 60_000;
const folder = process.argv[2];
// Resolved from where the peers are installed, which is not above this file.
const load = createRequire(join(folder, "package.json"));

async function order() {
  const pieces = [];
  for await (const piece of process.stdin) pieces.push(piece);
  const read = JSON.parse(Buffer.concat(pieces).toString());
  return { ...read, messages: read.messages.map((message) => Buffer.from(message, "base64").toString()) };
}

const within = (what, promise) =>
  Promise.race([
    promise,
    new Promise((_, refuse) => setTimeout(() => refuse(new Error(`no ${what} in time`)), PATIENCE_MS).unref()),
  ]);

const answerOf = (at) => ({
  code: at("MSA", 1),
  control_id: at("MSA", 2),
  kind: at("MSH", 9),
  version: at("MSH", 12),
  errors: at("ERR", 3) === "" ? 0 : 1,
});

// Lockstep by our own waiting: with `waitAck` the library requeues what it flushes, for ever, once two messages wait.
async function nodeHl7Client({ host, port, pipelined, messages }) {
  const { Client, Message } = load("node-hl7-client");
  const client = new Client({ host });
  const [answers, faults] = [[], []];
  let wake = () => {};
  const connection = client.createConnection({ port, waitAck: false }, (response) => {
    const ack = response.getMessage();
    // Its node for a place that is not there has a `toRaw` that raises.
    const at = (place) => (ack.get(place).isEmpty?.() ? "" : ack.get(place).toRaw());
    answers.push(answerOf((segment, field) => at(`${segment}.${field}`)));
    wake();
  });
  connection.on("data.error", (fault) => faults.push(String(fault)));
  const answered = async (count) => {
    while (answers.length < count) await new Promise((done) => (wake = done));
  };
  await within("connection", new Promise((done) => connection.once("connect", done)));
  const sent = [];
  for (const text of messages) {
    const message = new Message({ text });
    sent.push(message.toString());
    await connection.sendMessage(message);
    if (!pipelined) await within("answer", answered(sent.length));
  }
  await within("answer", answered(messages.length));
  await connection.close();
  return { answers, sent, faults };
}

async function medplum({ host, port, pipelined, messages }) {
  const { Hl7Client } = load("@medplum/hl7");
  const { Hl7Message } = load("@medplum/core");
  const client = new Hl7Client({ host, port, keepAlive: true });
  const faults = [];
  client.addEventListener("error", (event) => faults.push(String(event.error)));
  const read = (ack) => answerOf((segment, field) => ack.getSegment(segment)?.getField(field)?.toString() ?? "");
  const parsed = messages.map((text) => Hl7Message.parse(text));
  const answers = [];
  if (pipelined) {
    // Answers that come in one read are taken for one message, of which only the first MSA counts: those behind it are
    // lost to their senders. So the wait is short, and a promise that is not kept is counted, not raised.
    const wanted = parsed.map((message) => client.sendAndWait(message, { timeoutMs: 3_000 }));
    for (const result of await Promise.allSettled(wanted)) {
      if (result.status === "fulfilled") answers.push(read(result.value));
    }
  } else {
    for (const message of parsed) answers.push(read(await client.sendAndWait(message, { timeoutMs: PATIENCE_MS })));
  }
  await client.close();
  return { answers, sent: parsed.map((message) => message.toString()), faults };
}

const asked = await order();
const result = await { "node-hl7-client": nodeHl7Client, medplum }[asked.library](asked);
result.sent = result.sent.map((message) => Buffer.from(message).toString("base64"));
process.stdout.write(JSON.stringify(result), () => process.exit(0));
