"use strict";
// One plane through the volume, drawn on a canvas.

const AXES = { x: 0, y: 1, z: 2 };

class View {
  /** `plane` names the axes across, down and through; `upwards`: the second axis grows towards the top.
   *  `layer` gives the quantity that is drawn. */
  constructor(figure, plane, upwards, report, layer) {
    [this.caption, this.canvas] = figure.children;
    [this.across, this.down, this.through] = [...plane].map((name) => AXES[name]);
    this.upwards = upwards;
    this.report = report;
    this.layer = layer;
    this.size = [report.size[this.across], report.size[this.down]];
    this.image = document.createElement("canvas");
    [this.image.width, this.image.height] = this.size;
    this.pixels = new ImageData(...this.size);
  }

  /** Where the image lies on the canvas, in CSS pixels; voxels keep their shape. */
  layout() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    const spacing = this.report.spacing;
    const extent = [this.size[0] * spacing[this.across], this.size[1] * spacing[this.down]];
    const scale = Math.min(width / extent[0], height / extent[1]);
    const shown = extent.map((length) => length * scale);
    return { left: (width - shown[0]) / 2, top: (height - shown[1]) / 2, width: shown[0], height: shown[1] };
  }

  /** Place across and down under a pointer event, in voxels from the corner of the first one. */
  pointAt(event) {
    const box = this.canvas.getBoundingClientRect();
    const { left, top, width, height } = this.layout();
    const across = ((event.clientX - box.left - left) / width) * this.size[0];
    const down = ((event.clientY - box.top - top) / height) * this.size[1];
    return [across, this.upwards ? this.size[1] - down : down];
  }

  /** Voxel [x, y, z] under a pointer event, or null beside the image. */
  voxelAt(event) {
    const [i, j] = this.pointAt(event).map(Math.floor);
    if (i < 0 || j < 0 || i >= this.size[0] || j >= this.size[1]) return null;
    const voxel = [...this.report.voxel];
    voxel[this.across] = i;
    voxel[this.down] = j;
    return voxel;
  }

  draw() {
    this.fill();
    this.image.getContext("2d").putImageData(this.pixels, 0, 0);
    this.report.drawCaption(this.caption, this.layer());
    this.paint();
  }

  /** The plane as it was filled, with what lies above it. */
  paint() {
    const pen = sharpPen(this.canvas);
    pen.imageSmoothingEnabled = false;
    const place = this.layout();
    pen.drawImage(this.image, place.left, place.top, place.width, place.height);
    this.report.paintOver(pen, this, place);
    this.drawCross(pen, place, this.report.voxel, 7, "rgba(255, 255, 255, 0.55)");
    if (this.report.pointed !== null) this.drawCross(pen, place, this.report.pointed, 0, "#ffd43b", 5);
    this.drawDirections(pen, place);
  }

  /** Image in grey, the map above it. */
  fill() {
    const { report, pixels, size, upwards } = this;
    const { inside, opacity, masked } = report;
    const shown = this.layer();
    const plain = shown.name === "image";
    const colours = report.tables[shown.colours];
    const [greyLow, greyHigh] = shown.base.window;
    const greyScale = 255 / (greyHigh - greyLow || 1);
    const position = positionIn(shown);
    const stride = report.strides;
    const start = report.frameOffset() + report.voxel[this.through] * stride[this.through];
    const data = pixels.data;
    const clamp = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);
    for (let j = 0; j < size[1]; j++) {
      const row = start + (upwards ? size[1] - 1 - j : j) * stride[this.down];
      for (let i = 0; i < size[0]; i++) {
        const index = row + i * stride[this.across];
        const at = 4 * (j * size[0] + i);
        const grey = clamp((shown.base.values[index] - greyLow) * greyScale) || 0;
        const value = shown.values[index];
        const hidden = Number.isNaN(value) || (masked && !plain && !inside[index]);
        const weight = hidden ? 0 : plain ? 1 : opacity;
        const colour = weight > 0 ? 3 * Math.round(clamp(255 * position(value))) : 0;
        for (let c = 0; c < 3; c++) data[at + c] = grey * (1 - weight) + colours[colour + c] * weight;
        data[at + 3] = 255;
      }
    }
  }

  /** Lines through a voxel, with a gap around it; of `reach` only short ones. */
  drawCross(pen, { left, top, width, height }, voxel, gap, colour, reach = Infinity) {
    const down = this.upwards ? this.size[1] - 1 - voxel[this.down] : voxel[this.down];
    const x = left + ((voxel[this.across] + 0.5) / this.size[0]) * width;
    const y = top + ((down + 0.5) / this.size[1]) * height;
    pen.strokeStyle = colour;
    pen.lineWidth = reach === Infinity ? 1 : 1.5;
    pen.beginPath();
    pen.moveTo(Math.max(left, x - reach), y); pen.lineTo(Math.max(x - gap, left), y);
    pen.moveTo(Math.min(x + gap, left + width), y); pen.lineTo(Math.min(left + width, x + reach), y);
    pen.moveTo(x, Math.max(top, y - reach)); pen.lineTo(x, Math.max(y - gap, top));
    pen.moveTo(x, Math.min(y + gap, top + height)); pen.lineTo(x, Math.min(top + height, y + reach));
    pen.stroke();
  }

  /** Anatomical letters at the edges, where the orientation is known. */
  drawDirections(pen, { left, top, width, height }) {
    const letters = this.report.directions;
    if (letters === null) return;
    const [west, east] = letters[this.across];
    const [first, last] = letters[this.down];
    const [north, south] = this.upwards ? [last, first] : [first, last];
    pen.fillStyle = "rgba(255, 255, 255, 0.75)";
    pen.font = "600 12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.fillText(west, left + 11, top + height / 2);
    pen.fillText(east, left + width - 11, top + height / 2);
    pen.fillText(north, left + width / 2, top + 12);
    pen.fillText(south, left + width / 2, top + height - 12);
  }
}

/** The pen of a canvas whose pixels are those of the screen; of paper, twice as many. */
function sharpPen(canvas) {
  const ratio = Math.max(window.devicePixelRatio || 1, printing() ? 2 : 1);
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  return pen;
}

function printing() {
  return window.matchMedia("print").matches;
}
