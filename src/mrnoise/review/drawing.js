// A region that is drawn on a plane: which voxels lie in it, as rows of them.

/** Voxels of an image of `size` whose centres lie in a shape, 1 or 0 each; that under its first point at least. */
function voxelsIn(shape, points, size) {
  const [nx, ny] = size;
  const voxels = new Uint8Array(nx * ny);
  const [first, last] = [points[0], points.at(-1)];
  const inside = { ellipse: inEllipse, box: inBox, freehand: inPolygon }[shape];
  const corners = shape === "freehand" ? points : [first, last];
  for (let y = 0; y < ny; y++) {
    for (let x = 0; x < nx; x++) voxels[y * nx + x] = inside(x + 0.5, y + 0.5, corners) ? 1 : 0;
  }
  const [i, j] = first.map(Math.floor);
  if (!voxels.includes(1) && i >= 0 && j >= 0 && i < nx && j < ny) voxels[j * nx + i] = 1;
  return voxels;
}

function inBox(x, y, [[x0, y0], [x1, y1]]) {
  return (x - x0) * (x - x1) <= 0 && (y - y0) * (y - y1) <= 0;
}

function inEllipse(x, y, [[x0, y0], [x1, y1]]) {
  const [a, b] = [(x - (x0 + x1) / 2) / (x1 - x0), (y - (y0 + y1) / 2) / (y1 - y0)];
  return a * a + b * b <= 0.25;
}

function inPolygon(x, y, corners) {
  let inside = false;
  for (let k = 0, before = corners.length - 1; k < corners.length; before = k++) {
    const [[xa, ya], [xb, yb]] = [corners[k], corners[before]];
    if (ya > y !== yb > y && x < ((xb - xa) * (y - ya)) / (yb - ya) + xa) inside = !inside;
  }
  return inside;
}

/** [[y, first x, x behind the last], …] */
function rowsOf(voxels, [nx, ny]) {
  const rows = [];
  for (let y = 0; y < ny; y++) {
    for (let x = 0; x < nx; x++) {
      if (!voxels[y * nx + x]) continue;
      const first = x;
      while (x < nx && voxels[y * nx + x]) x++;
      rows.push([y, first, x]);
    }
  }
  return rows;
}

/** Edges between voxels of a region and others, as a path of the pen. */
function outline(pen, voxels, [nx, ny], { left, top, width, height }) {
  const at = (x, y) => x >= 0 && y >= 0 && x < nx && y < ny && voxels[y * nx + x] === 1;
  const [across, down] = [(x) => left + (x / nx) * width, (y) => top + (y / ny) * height];
  pen.beginPath();
  for (let y = 0; y <= ny; y++) {
    for (let x = 0; x <= nx; x++) {
      if (at(x, y) !== at(x - 1, y)) {
        pen.moveTo(across(x), down(y));
        pen.lineTo(across(x), down(y + 1));
      }
      if (at(x, y) !== at(x, y - 1)) {
        pen.moveTo(across(x), down(y));
        pen.lineTo(across(x + 1), down(y));
      }
    }
  }
}

/** A bool array as a .npy file, version 1.0. */
function npy(shape, bytes) {
  const words = `{'descr': '|b1', 'fortran_order': False, 'shape': (${shape.join(", ")},), }`;
  const length = Math.ceil((10 + words.length + 1) / 64) * 64;
  const head = new Uint8Array(length).fill(32);
  head.set([0x93, 78, 85, 77, 80, 89, 1, 0, (length - 10) & 255, (length - 10) >> 8]);
  head.set(new TextEncoder().encode(words), 10);
  head[length - 1] = 10;
  return new Blob([head, bytes], { type: "application/octet-stream" });
}
