// Reads and writes safetensors files: Node, no package.
import { readFileSync, writeFileSync } from "node:fs";

const ARRAYS = {
  F64: Float64Array,
  F32: Float32Array,
  I64: BigInt64Array,
  I32: Int32Array,
  U8: Uint8Array,
  BOOL: Uint8Array,
};

// name -> { dtype, shape, data: a typed array, values: ordinary numbers }
export function read(path) {
  const file = readFileSync(path);
  const size = Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.subarray(8, 8 + size).toString("utf8"));
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const [from, to] = data_offsets.map((place) => 8 + size + place);
    if (to > file.length) throw new Error(`${path}: is cut off at ${name}`);
    if (!(dtype in ARRAYS)) throw new Error(`${name}: no reader for ${dtype}`);
    const bytes = new Uint8Array(file.subarray(from, to)); // a copy, aligned
    const data = new ARRAYS[dtype](bytes.buffer);
    tensors[name] = { dtype, shape, data, values: Array.from(data, Number) };
  }
  return tensors;
}

// tensors: name -> { dtype, shape, data: a typed array }
export function write(path, tensors) {
  const header = {};
  const parts = [];
  let end = 0;
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
    header[name] = { dtype, shape, data_offsets: [end, (end += bytes.length)] };
    parts.push(bytes);
  }
  const text = Buffer.from(JSON.stringify(header), "utf8");
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([size, text, ...parts]));
}
