"use strict";
// The data of the report: packed volumes, intervals, numbers as text.

/** Bytes of a volume that the page carries as base64 of gzip. */
async function unpackBytes(name) {
  const text = atob(document.getElementById(`volume-${name}`).textContent);
  const packed = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) packed[i] = text.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Float32 values, whose bytes were sorted by significance before packing. */
async function unpackFloats(name) {
  const planes = await unpackBytes(name);
  const count = planes.length / 4;
  const bytes = new Uint8Array(planes.length);
  for (let byte = 0; byte < 4; byte++) {
    for (let i = 0; i < count; i++) bytes[4 * i + byte] = planes[byte * count + i];
  }
  return new Float32Array(bytes.buffer);
}

/** Factors on a standard deviation that bound the true one; null where its error is unknown, 0 means exact. */
function intervalFactors(freedom, table) {
  if (freedom === 0) return [1, 1];
  if (freedom === null || !(freedom > 0)) return null;
  const last = table.low.length - 1;
  const place = Math.min(Math.max((Math.log(freedom) - table.start) / table.step, 0), last);
  const below = Math.min(Math.floor(place), last - 1);
  const part = place - below;
  const at = (values) => Math.exp(values[below] * (1 - part) + values[below + 1] * part);
  return [at(table.low), at(table.high)];
}

/** Where a value lies in the window of a quantity: 0 at its lower end, 1 at its upper one. */
function positionIn({ window: [low, high], logarithmic }) {
  if (!logarithmic) return (value) => (value - low) / (high - low || 1);
  return (value) => Math.log(value / low) / Math.log(high / low);
}

/** 95 % interval of a quantity {rule, freedom, values} at one voxel, or null. */
function intervalAt(quantity, index, table) {
  if (quantity.rule === null) return null;
  const freedom = quantity.freedom instanceof Float32Array ? quantity.freedom[index] : quantity.freedom;
  const factors = intervalFactors(freedom, table);
  const value = quantity.values[index];
  if (factors === null || !Number.isFinite(value)) return null;
  return quantity.rule === "times" ? [value * factors[0], value * factors[1]] : [value / factors[1], value / factors[0]];
}

/** Four significant digits, powers of ten written out: 3.214 × 10⁻⁶. */
function formatNumber(value, digits = 4) {
  if (!Number.isFinite(value)) return "–";
  if (value === 0) return "0";
  const [mantissa, power] = value.toExponential(digits - 1).split("e");
  const exponent = Number(power);
  if (exponent >= -3 && exponent < 5) return value.toFixed(Math.max(digits - 1 - exponent, 0));
  const raised = String(exponent).replace(/./g, (c) => (c === "-" ? "⁻" : "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(c)]));
  return `${mantissa} × 10${raised}`;
}

/** Two numbers with their power of ten in common: (6.858 – 8.918) × 10⁻⁶. */
function formatInterval([low, high], digits = 4) {
  const power = /^\S+ (× 10\S+)$/.exec(formatNumber(high, digits));
  if (power === null) return `${formatNumber(low, digits)} – ${formatNumber(high, digits)}`;
  const exponent = Math.floor(Math.log10(Number(high.toExponential(digits - 1))));
  const [first, last] = [low, high].map((value) => (value / 10 ** exponent).toFixed(digits - 1));
  return `(${first} – ${last}) ${power[1]}`;
}

/** Round numbers within a range, about `count` of them. */
function ticks(low, high, count) {
  const span = high - low;
  if (!(span > 0)) return [low];
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, k) => (first + k) * step);
}

/** Colour look-up table: 256 RGB triples from base64. */
function colourTable(text) {
  return Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
}

/** The colour at a place between 0 and 1. */
function colourAt(table, place) {
  const at = 3 * Math.round(Math.min(Math.max(place, 0), 1) * 255);
  return `rgb(${table.subarray(at, at + 3).join(", ")})`;
}
