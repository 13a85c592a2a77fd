// Prints what one camera saw, frame by frame: node print_frames.cjs URL CAMERA
// A group, its restarts and acknowledgements, with node-redis (npm install redis).
const { createClient } = require("redis");

const [url, camera] = process.argv.slice(2);
const stream = `vedette:{${camera}}:detections`;
const group = "printer";
const me = "printer-1"; // this process' own, and the same after a restart

async function main() {
  const client = await createClient({ url }).on("error", console.error).connect();
  await client.xGroupCreate(stream, group, "0").catch((error) => {
    if (!error.message.startsWith("BUSYGROUP")) throw error;
  });
  // First what was delivered before and never acknowledged, then what is new.
  for (let place = "0"; ; ) {
    const options = { COUNT: 100, BLOCK: 2000 };
    const answer = await client.xReadGroup(group, me, { key: stream, id: place }, options);
    const entries = answer?.[0]?.messages ?? [];
    for (const { id, message } of entries) {
      if (message?.data) print(id, JSON.parse(message.data));
      else console.error(`${stream} ${id} left the stream before it was done`);
      await client.xAck(stream, group, id);
    }
    if (place !== ">") place = entries.length ? entries[entries.length - 1].id : ">";
  }
}

function print(id, message) {
  const dropped = Object.values(message.dropped).reduce((sum, frames) => sum + frames, 0);
  if (dropped) console.log(`${dropped} frames were dropped before #${message.seq}`);
  const labels = message.detections.map((detection) => detection.label).join(" ");
  console.log(`${id} #${message.seq} ${labels || "nothing"}`);
}

main();
