// Speaks sample.wav with espeak-ng into edge/web/dashboard. Run by hand after a change of the sentence.
// 16 kHz, mono: what engines want, and a third less than what espeak-ng writes.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { SAMPLE_SPEECH } from "../../../edge/web/dashboard/dashboard-samples.js";

const RATE = 16_000;
const HEADER = 44;

const spoken = execFileSync("espeak-ng", ["-v", "en-us", "-s", "150", "--stdout", SAMPLE_SPEECH], { maxBuffer: 1 << 24 });
const from = spoken.readUInt32LE(24);
const samples = (spoken.length - HEADER) >> 1;
const length = Math.floor((samples * RATE) / from);
const wav = Buffer.alloc(HEADER + length * 2);
spoken.copy(wav, 0, 0, HEADER);
wav.writeUInt32LE(wav.length - 8, 4);
wav.writeUInt32LE(RATE, 24);
wav.writeUInt32LE(RATE * 2, 28);
wav.writeUInt32LE(length * 2, 40);
for (let n = 0; n < length; n += 1) {
  const at = (n * from) / RATE;
  const low = Math.floor(at);
  const here = spoken.readInt16LE(HEADER + low * 2);
  const next = low + 1 < samples ? spoken.readInt16LE(HEADER + (low + 1) * 2) : here;
  wav.writeInt16LE(Math.round(here + (next - here) * (at - low)), HEADER + n * 2);
}
writeFileSync(new URL("../../../edge/web/dashboard/sample.wav", import.meta.url), wav);
