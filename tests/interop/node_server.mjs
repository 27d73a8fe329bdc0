// The npm servers: `node-hl7-server` and `@medplum/hl7`. Writes a JSON line with its port, then one for each message as
// the library gives it out; ends when standard input does.
import { createRequire } from "node:module";
import { join } from "node:path";

const [folder, library] = process.argv.slice(2);
const load = createRequire(join(folder, "package.json"));
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const took = (text) => say({ message: Buffer.from(text).toString("base64") });

function nodeHl7Server() {
  const { Server } = load("node-hl7-server");
  const inbound = new Server({ bindAddress: "127.0.0.1" }).createInbound({ port: 0 }, async (request, response) => {
    took(request.getMessage().toString());
    await response.sendResponse("AA");
  });
  inbound.on("data.error", (fault) => say({ fault: String(fault) }));
  inbound.on("listen", () => say({ port: inbound._socket.address().port }));
}

function medplum() {
  const { Hl7Server } = load("@medplum/hl7");
  const server = new Hl7Server((connection) => {
    connection.addEventListener("message", ({ message }) => {
      took(message.toString());
      connection.send(message.buildAck());
    });
    connection.addEventListener("error", (event) => say({ fault: String(event.error) }));
  });
  server.start(0, "utf-8");
  server.server.once("listening", () => say({ port: server.server.address().port }));
}

({ "node-hl7-server": nodeHl7Server, medplum })[library]();
process.stdin.resume().on("end", () => process.exit(0));
