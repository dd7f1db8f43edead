// A card, op by op: the softmax of a port in JavaScript.  node card.mjs CARDS DUMP
import { read, write } from "./safetensors.mjs";

const [folder, out] = process.argv.slice(2);
const card = read(`${folder}/softmax.safetensors`);
const dump = {};
for (const [name, tensor] of Object.entries(card)) {
  if (!name.endsWith(".input.x")) continue;
  const data = Float32Array.from(tensor.values);
  const width = tensor.shape.at(-1);
  for (let row = 0; row < data.length; row += width) {
    const x = data.subarray(row, row + width); // a view: what is written stays
    const top = Math.max(...x);
    x.forEach((v, i) => (x[i] = Math.exp(v - top)));
    const sum = x.reduce((a, b) => a + b, 0);
    x.forEach((v, i) => (x[i] = v / sum));
  }
  const key = name.replace(".input.x", ".output");
  dump[`softmax.${key}`] = { dtype: "F32", shape: tensor.shape, data };
}
write(out, dump);
