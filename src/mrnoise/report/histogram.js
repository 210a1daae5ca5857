"use strict";
// Histogram of a map inside the object; it is also the colour bar, and its two handles set the window.

const BINS = 120;
const HISTOGRAM_MARGIN = 14;
const GRIP = 12;

/** Counts of the finite values inside the object between the 0.2th and the 99.8th percentile. */
function histogramOf(values, inside) {
  const kept = values.filter((value, index) => inside[index] && Number.isFinite(value)).sort();
  if (kept.length === 0) return { low: 0, high: 1, counts: new Uint32Array(BINS) };
  let low = kept[Math.floor(0.002 * (kept.length - 1))];
  let high = kept[Math.ceil(0.998 * (kept.length - 1))];
  if (low > 0 && low < 0.35 * high) low = 0;
  const pad = 0.06 * (high - low) || 0.1 * Math.abs(high) || 1;
  low = low === 0 ? 0 : low - pad;
  high += pad;
  const counts = new Uint32Array(BINS);
  for (const value of kept) {
    const bin = Math.floor(((value - low) / (high - low)) * BINS);
    if (bin >= 0 && bin < BINS) counts[bin]++;
  }
  return { low, high, counts };
}

class Histogram {
  constructor(canvas, report) {
    this.canvas = canvas;
    this.report = report;
    this.held = null;
    canvas.addEventListener("pointerdown", (event) => this.grab(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    canvas.addEventListener("pointerup", () => (this.held = null));
  }

  /** The range of the axis: the data, widened where the window reaches beyond. */
  range() {
    const { histogram, window } = this.report.shown;
    return [Math.min(histogram.low, window[0]), Math.max(histogram.high, window[1])];
  }

  toX(value) {
    const [low, high] = this.range();
    const width = this.canvas.clientWidth - 2 * HISTOGRAM_MARGIN;
    return HISTOGRAM_MARGIN + ((value - low) / (high - low)) * width;
  }

  toValue(event) {
    const [low, high] = this.range();
    const box = this.canvas.getBoundingClientRect();
    const width = box.width - 2 * HISTOGRAM_MARGIN;
    return low + ((event.clientX - box.left - HISTOGRAM_MARGIN) / width) * (high - low);
  }

  grab(event) {
    const x = event.clientX - this.canvas.getBoundingClientRect().left;
    const distances = this.report.shown.window.map((value) => Math.abs(this.toX(value) - x));
    this.held = distances[0] <= distances[1] ? 0 : 1;
    this.canvas.setPointerCapture(event.pointerId);
    this.move(event);
  }

  move(event) {
    if (this.held === null) return;
    const { histogram } = this.report.shown;
    const value = Math.min(Math.max(this.toValue(event), histogram.low), histogram.high);
    const next = [...this.report.shown.window];
    next[this.held] = value;
    if (next[1] > next[0]) this.report.setWindow(...next);
  }

  draw() {
    const { canvas, report } = this;
    const { histogram, window: shownWindow } = report.shown;
    const pen = sharpPen(canvas);
    const height = canvas.clientHeight;
    const [barTop, barHeight] = [height - 34, 10];
    this.drawCounts(pen, barTop - 4, histogram);
    this.drawBar(pen, barTop, barHeight, shownWindow);
    this.drawTicks(pen, barTop + barHeight);
    this.drawHandles(pen, barTop + barHeight, shownWindow);
  }

  colourOf(value) {
    const { shown, tables } = this.report;
    return colourAt(tables[shown.colours], positionIn(shown)(value));
  }

  drawCounts(pen, bottom, { low, high, counts }) {
    const top = 6;
    const most = Math.max(...counts, 1);
    pen.fillStyle = "#7f8b99";
    for (let bin = 0; bin < BINS; bin++) {
      const x = this.toX(low + (bin / BINS) * (high - low));
      const next = this.toX(low + ((bin + 1) / BINS) * (high - low));
      const tall = (counts[bin] / most) * (bottom - top);
      pen.fillRect(x, bottom - tall, next - x + 0.4, tall);
    }
  }

  drawBar(pen, top, height, [low, high]) {
    const [left, right] = [HISTOGRAM_MARGIN, this.canvas.clientWidth - HISTOGRAM_MARGIN];
    const [axisLow, axisHigh] = this.range();
    for (let x = left; x < right; x++) {
      pen.fillStyle = this.colourOf(axisLow + ((x + 0.5 - left) / (right - left)) * (axisHigh - axisLow));
      pen.fillRect(x, top, 1.5, height);
    }
    pen.strokeStyle = "rgba(127, 127, 127, 0.4)";
    pen.strokeRect(left - 0.5, top - 0.5, right - left + 1, height + 1);
  }

  drawTicks(pen, top) {
    pen.fillStyle = printing() ? "#333" : "#aab4c0";
    pen.font = "11px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "top";
    const [low, high] = this.range();
    for (const value of ticks(low, high, 5)) {
      pen.fillRect(this.toX(value) - 0.5, top, 1, 4);
      pen.fillText(axisNumber(value, high), this.toX(value), top + 8);
    }
  }

  drawHandles(pen, bottom, window) {
    for (const value of window) {
      const x = this.toX(value);
      pen.fillStyle = printing() ? "#000" : "rgba(255, 255, 255, 0.9)";
      pen.fillRect(x - 0.75, 4, 1.5, bottom - 4);
      pen.beginPath();
      pen.moveTo(x - GRIP / 2, 0); pen.lineTo(x + GRIP / 2, 0); pen.lineTo(x, GRIP * 0.75);
      pen.fill();
    }
  }
}

/** A tick in units of the power of ten that `axisUnit` names. */
function axisNumber(value, high) {
  return String(Number((value / 10 ** axisPower(high)).toPrecision(4)));
}

/** Power of ten taken out of an axis that reaches `high`. */
function axisPower(high) {
  const exponent = Math.floor(Math.log10(Math.abs(high) || 1));
  return exponent < -2 || exponent > 4 ? exponent : 0;
}

/** Unit of an axis with its power of ten: × 10⁻⁶ a.u. */
function axisUnit(high, units) {
  const power = axisPower(high);
  const raised = power === 0 ? "" : formatNumber(10 ** power, 1).replace(/^\S+ /, "");
  return [raised, units === "1" ? "" : units].filter(Boolean).join(" ");
}
