// The vendor's quickstart for Node: one text prompt. Arguments: folder with node_modules, then one JSON object with
// client ("azure" or "plain"), api ("beta" or "ga"), endpoint (https://...) and key. Writes one JSON object.
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.argv[2], "anchor.js"));
const { AzureOpenAI, OpenAI } = require("openai");
const { client: kind, api, endpoint, key } = JSON.parse(process.argv[3]);
const { OpenAIRealtimeWS } = require(api === "beta" ? "openai/beta/realtime/ws" : "openai/realtime/ws");

const model = "gpt-realtime";
const connection =
  kind === "azure"
    ? await OpenAIRealtimeWS.azure(
        new AzureOpenAI({ apiKey: key, apiVersion: "2025-04-01-preview", endpoint, deployment: model }),
      )
    : new OpenAIRealtimeWS({ model }, new OpenAI({ apiKey: key, baseURL: `${endpoint}/openai/v1` }));

const heard = { types: [], answer: "", audio_bytes: 0, status: null, wire: null };
const finish = (code, problem) => {
  process.stdout.write(JSON.stringify({ ...heard, problem }));
  process.exitCode = code;
  connection.close();
};
const limit = setTimeout(() => finish(1, "no response.done in time"), 30_000);

connection.on("error", (error) => finish(1, String(error.message ?? error)));
connection.on("event", (event) => {
  heard.types.push(event.type);
  switch (event.type) {
    case "session.created": {
      heard.wire = event.session.type ? "ga" : "preview";
      const session =
        heard.wire === "ga" ? { type: "realtime", output_modalities: ["audio"] } : { modalities: ["text", "audio"] };
      connection.send({ type: "session.update", session });
      const content = [{ type: "input_text", text: "Please say hello." }];
      connection.send({ type: "conversation.item.create", item: { type: "message", role: "user", content } });
      connection.send({ type: "response.create" });
      break;
    }
    case "response.audio.delta":
    case "response.output_audio.delta":
      heard.audio_bytes += Buffer.from(event.delta, "base64").length;
      break;
    case "response.audio_transcript.delta":
    case "response.output_audio_transcript.delta":
      heard.answer += event.delta;
      break;
    case "response.done":
      heard.status = event.response.status;
      clearTimeout(limit);
      finish(0, null);
  }
});
