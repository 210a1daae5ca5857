"use strict";
// The page: state, controls and the readout of the voxel under the pointer.

const SMALLEST_REACH = 1.25; // of the colours of a ratio
const SLOWEST = 30; // turns of a wheel; a touchpad sends many small ones
const WINDOW_STEP = 0.1;
const WINDOW_PIXELS = 300; // of a drag that moves or widens the window by its width

class Report {
  constructor(settings) {
    const [frames, nz, ny, nx] = settings.shape;
    Object.assign(this, settings);
    this.size = [nx, ny, nz];
    this.strides = [1, nx, nx * ny];
    this.frameCount = frames;
    this.spacing = [settings.spacing[2], settings.spacing[1], settings.spacing[0] * settings.sliceStep];
    this.voxel = [Math.floor(nx / 2), Math.floor(ny / 2), settings.slice];
    this.pointed = null;
    this.frame = 0;
    this.opacity = 1;
    this.masked = true;
    this.layout = "one";
    this.tables = Object.fromEntries(Object.entries(settings.colourMaps).map(([n, t]) => [n, colourTable(t)]));
  }

  /** Unpack every volume, then build the page. */
  async start() {
    this.inside = await unpackBytes("inside");
    await unpackQuantities(this.quantities, "");
    [this.base] = this.quantities;
    if (this.second) {
      await unpackQuantities(this.second.quantities, "second-");
      this.quantities = this.quantities.filter((quantity) => this.otherOf(quantity));
      this.quantities.forEach((quantity) => this.shareWindow(quantity, this.otherOf(quantity)));
      this.layout = "compared";
    }
    this.select(this.quantities[1]);
    this.bar = new Histogram(element("histogram"), this);
    this.buildReadout();
    this.buildControls();
    this.setLayout(this.layout);
    this.readAddress();
    window.addEventListener("hashchange", () => this.readAddress());
    window.addEventListener("resize", () => this.draw());
    window.addEventListener("keydown", (event) => this.press(event));
    window.matchMedia("print").addEventListener("change", () => this.draw());
    window.addEventListener("beforeprint", () => this.draw());
    window.addEventListener("afterprint", () => this.draw());
  }

  /** The same quantity of the second map. */
  otherOf(quantity) {
    return this.second.quantities.find(({ name }) => name === quantity.name);
  }

  /** Both maps have the same colours. */
  shareWindow(quantity, other) {
    const ends = [...quantity.window, ...other.window];
    quantity.fullWindow = quantity.window = [Math.min(...ends), Math.max(...ends)];
  }

  frameOffset() {
    return this.frame * this.strides[2] * this.size[2];
  }

  indexOf([x, y, z]) {
    return this.frameOffset() + x * this.strides[0] + y * this.strides[1] + z * this.strides[2];
  }

  // -- planes ----------------------------------------------------------------------------------------------

  /** "one": the map, of a volume in three planes; "beside": image, σ, SNR and g; "compared": two maps, their ratio. */
  setLayout(layout) {
    this.layout = layout;
    const shown = () => this.shown;
    const planes = [["z", "xyz", false, shown]];
    if (layout === "one" && this.volume) planes.push(["y", "xzy", true, shown], ["x", "yzx", true, shown]);
    if (layout === "beside") {
      planes[0][3] = () => this.panel(0);
      for (const place of [1, 2, 3]) planes.push([`z${place}`, "xyz", false, () => this.panel(place)]);
    }
    if (layout === "compared") {
      planes.push(["z1", "xyz", false, () => this.secondShown()], ["z2", "xyz", false, () => this.ratio()]);
      planes.push(["z3", "xyz", false, () => this.base]);
    }
    element("viewer").classList.toggle("volume", planes.length === 3);
    element("viewer").classList.toggle("four", planes.length === 4);
    element("viewer").classList.toggle("compared", this.second !== undefined);
    const figures = planes.map(([name]) => {
      const figure = document.createElement("figure");
      const canvas = document.createElement("canvas");
      canvas.id = `plane-${name}`;
      figure.append(document.createElement("figcaption"), canvas);
      return figure;
    });
    element("planes").replaceChildren(...figures);
    this.views = planes.map(([, ...more], k) => new View(figures[k], more[0], more[1], this, more[2]));
    this.views.forEach((view) => this.listen(view));
    this.draw();
  }

  /** Those that stand beside each other; the last gives way to one that is shown and not among them. */
  panel(place) {
    const names = this.panels.includes(this.shown.name) ? this.panels : [...this.panels.slice(0, 3), this.shown.name];
    return this.quantities.find(({ name }) => name === names[place]);
  }

  /** What is shown, of the second map, in the colours of the first. */
  secondShown() {
    const other = this.otherOf(this.shown);
    const { window, colours } = this.shown;
    const base = { ...this.otherOf(this.base), window: this.base.window };
    return { ...other, window, colours, base, title: `B · ${other.title}` };
  }

  /** The second map over the first. */
  ratio() {
    const { shown } = this;
    shown.ratio ??= ratioOf(shown, this.otherOf(shown), this.inside);
    return { ...shown, ...shown.ratio, logarithmic: true, colours: "RdBu", units: "1", title: `${shown.title}: B / A` };
  }

  /** Above a plane: what it shows, and what its colours mean. */
  drawCaption(caption, layer) {
    const first = this.second && layer === this.shown ? "A · " : "";
    const parts = [`${first}${layer.title}`, ...layer.window.map((value) => formatNumber(value, 3))];
    const [title, low, high] = parts.map((text) => {
      const part = document.createElement("span");
      part.textContent = text;
      return part;
    });
    const bar = document.createElement("i");
    const colours = Array.from({ length: 9 }, (_, k) => colourAt(this.tables[layer.colours], k / 8));
    bar.style.background = `linear-gradient(to right, ${colours.join(", ")})`;
    high.textContent += layer.units === "1" ? "" : ` ${layer.units}`;
    caption.replaceChildren(title, low, bar, high);
    caption.classList.toggle("shown", layer === this.shown && this.views.length === 4);
  }

  /** Above the picture, below the cross: for pages that draw there. */
  paintOver() {}

  // -- changes ---------------------------------------------------------------------------------------------

  show(name) {
    this.select(this.quantities.find((quantity) => quantity.name === name) ?? this.shown);
    this.draw();
  }

  select(quantity) {
    quantity.histogram ??= histogramOf(quantity.values, this.inside);
    this.shown = quantity;
  }

  setWindow(low, high) {
    if (!(high > low)) return this.drawControls();
    this.shown.window = [low, high];
    return this.draw();
  }

  moveTo(voxel) {
    this.voxel = voxel.map((v, axis) => Math.min(Math.max(Math.round(v), 0), this.size[axis] - 1));
    this.draw();
  }

  step(through, by) {
    const voxel = [...this.voxel];
    voxel[through] += by;
    this.moveTo(voxel);
  }

  setFrame(frame) {
    this.frame = Math.min(Math.max(frame, 0), this.frameCount - 1);
    this.draw();
  }

  /** Move the window and make it wider, by parts of its width. */
  changeWindow(level, width) {
    const [low, high] = this.shown.window;
    const span = high - low;
    const half = 0.5 * span * Math.exp(width);
    const middle = 0.5 * (low + high) + level * span;
    this.setWindow(middle - half, middle + half);
  }

  // -- keys ------------------------------------------------------------------------------------------------

  /** [keys, what they do in words, what they do]: the list on the page. */
  keys() {
    const found = [
      [["1", "2", "3", "4", "5", "6", "7", "8", "9"].slice(0, this.quantities.length), "quantity", (key) => this.show(this.quantities[key - 1].name)],
      [["b"], "side by side", () => this.setLayout(this.nextLayout())],
      [["-", "+"], "window narrower, wider", (key) => this.changeWindow(0, key === "+" ? WINDOW_STEP : -WINDOW_STEP)],
      [[",", "."], "window down, up", (key) => this.changeWindow(key === "." ? WINDOW_STEP : -WINDOW_STEP, 0)],
      [["0"], "window as it was", () => this.setWindow(...this.shown.fullWindow)],
    ];
    if (this.size[2] > 1) {
      found.unshift([["ArrowUp", "ArrowDown"], "slice", (key) => this.step(2, key === "ArrowUp" ? 1 : -1)]);
    }
    if (this.frameCount > 1) {
      found.unshift([["ArrowLeft", "ArrowRight"], "frame", (key) => this.setFrame(this.frame + (key === "ArrowRight" ? 1 : -1))]);
    }
    return found;
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches?.("select, input:not([type=checkbox])")) return;
    const found = this.keys().find(([keys]) => keys.includes(event.key));
    if (!found) return;
    event.preventDefault();
    found[2](event.key);
  }

  layouts() {
    return this.second ? ["compared", "one"] : ["one", "beside"];
  }

  nextLayout() {
    return this.layouts().find((layout) => layout !== this.layout);
  }

  /** #voxel=x,y,z or x,y,z,frame (numbers of the full image), #quantity=snr, #window=low,high and #layout=beside,
   *  joined by "&". */
  readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const numbers = (asked.get("voxel") ?? "").split(",").map(Number);
    if (asked.has("quantity")) this.show(asked.get("quantity"));
    if (this.layouts().includes(asked.get("layout"))) this.setLayout(asked.get("layout"));
    if (asked.has("window")) this.setWindow(...asked.get("window").split(",").map(Number));
    if (numbers.length >= 3 && numbers.every(Number.isFinite)) {
      this.frame = Math.min(Math.max(Math.round((numbers[3] ?? 0) / this.frameStep), 0), this.frameCount - 1);
      this.moveTo([numbers[0], numbers[1], numbers[2] / this.sliceStep]);
    } else {
      this.draw();
    }
  }

  // -- page ------------------------------------------------------------------------------------------------

  listen(view) {
    const { canvas } = view;
    let turned = 0;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("pointermove", (event) => {
      const voxel = view.voxelAt(event);
      if (event.buttons === 2) this.changeWindow(event.movementY / WINDOW_PIXELS, event.movementX / WINDOW_PIXELS);
      else if (voxel && event.buttons === 1) this.moveTo(voxel);
      else this.pointAt(voxel);
    });
    canvas.addEventListener("pointerleave", () => this.pointAt(null));
    canvas.addEventListener("pointerdown", (event) => {
      const voxel = view.voxelAt(event);
      if (event.button === 2) canvas.setPointerCapture(event.pointerId);
      else if (voxel) this.moveTo(voxel);
    });
    canvas.addEventListener(
      "wheel",
      (event) => {
        if (this.size[view.through] === 1) return;
        event.preventDefault();
        turned += event.deltaY;
        if (Math.abs(turned) < SLOWEST) return;
        this.step(view.through, Math.sign(turned));
        turned = 0;
        this.pointAt(view.voxelAt(event));
      },
      { passive: false },
    );
  }

  /** The voxel under the pointer, in every plane; null: the pointer is elsewhere. */
  pointAt(voxel) {
    this.pointed = voxel;
    this.views.forEach((view) => view.paint());
    this.readOut(voxel ?? this.voxel);
  }

  buildReadout() {
    const kinds = ["name", "value", "interval", ...(this.second ? ["value second", "interval second", "ratio"] : []), "units"];
    const heads = { value: this.second ? "A" : "value", interval: this.second ? "" : "95 % interval", "value second": "B", ratio: "B / A" };
    const head = document.createElement("tr");
    for (const kind of kinds) {
      const cell = document.createElement("th");
      cell.className = kind;
      cell.textContent = heads[kind] ?? "";
      head.append(cell);
    }
    element("readout-head").replaceChildren(head);
    const rows = this.quantities.map((quantity) => {
      const row = document.createElement("tr");
      row.dataset.quantity = quantity.name;
      row.title = quantity.definition;
      for (const kind of kinds) row.insertCell().className = kind;
      row.cells[0].textContent = quantity.title;
      row.querySelector(".units").textContent = quantity.units === "1" ? "" : quantity.units;
      row.addEventListener("click", () => this.show(quantity.name));
      return row;
    });
    element("readout").replaceChildren(...rows);
  }

  buildControls() {
    for (const quantity of this.quantities) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = quantity.title;
      button.dataset.quantity = quantity.name;
      button.addEventListener("click", () => this.show(quantity.name));
      element("quantities").append(button);
    }
    const titles = { one: "One", beside: "Side by side", compared: "Compared" };
    for (const layout of this.layouts()) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = titles[layout];
      button.dataset.layout = layout;
      button.addEventListener("click", () => this.setLayout(layout));
      element("layouts").append(button);
    }
    const symbols = { ArrowUp: "↑", ArrowDown: "↓", ArrowLeft: "←", ArrowRight: "→", Escape: "Esc" };
    for (const [keys, words] of this.keys()) {
      const pair = document.createElement("div");
      const [term, text] = [document.createElement("dt"), document.createElement("dd")];
      const names = keys.map((key) => symbols[key] ?? key);
      term.textContent = names.length > 3 ? `${names[0]} – ${names.at(-1)}` : names.join(" ");
      text.textContent = words;
      pair.append(term, text);
      element("keys").append(pair);
    }
    for (const name of Object.keys(this.tables)) element("colours").append(new Option(name, name));
    element("colours").addEventListener("change", (event) => {
      this.shown.colours = event.target.value;
      this.draw();
    });
    element("opacity").addEventListener("input", (event) => {
      this.opacity = Number(event.target.value);
      this.draw();
    });
    element("masked").addEventListener("change", (event) => {
      this.masked = event.target.checked;
      this.draw();
    });
    for (const id of ["low", "high"]) {
      element(id).addEventListener("change", () => {
        const unit = 10 ** axisPower(this.bar.range()[1]);
        this.setWindow(Number(element("low").value) * unit, Number(element("high").value) * unit);
      });
    }
    element("reset").addEventListener("click", () => this.setWindow(...this.shown.fullWindow));
    const names = this.axes.map(([name]) => name[0].toUpperCase() + name.slice(1));
    element("slice-name").textContent = names.at(-1) ?? "";
    element("frame-name").textContent = names.slice(0, -1).join(", ");
    this.buildSlider("slice", this.size[2], (value) => this.moveTo([this.voxel[0], this.voxel[1], value]));
    this.buildSlider("frame", this.frameCount, (value) => this.setFrame(value));
  }

  buildSlider(name, count, onInput) {
    element(`${name}-row`).hidden = count === 1;
    element(name).max = count - 1;
    element(name).addEventListener("input", (event) => onInput(Number(event.target.value)));
  }

  draw() {
    this.views.forEach((view) => view.draw());
    this.bar.draw();
    this.drawControls();
    this.readOut(this.voxel);
  }

  drawControls() {
    const { shown } = this;
    for (const button of element("quantities").children) {
      button.setAttribute("aria-pressed", String(button.dataset.quantity === shown.name));
    }
    for (const button of element("layouts").children) {
      button.setAttribute("aria-pressed", String(button.dataset.layout === this.layout));
    }
    for (const row of element("readout").children) {
      row.classList.toggle("shown", row.dataset.quantity === shown.name);
    }
    element("definition").textContent = shown.definition;
    element("axis-unit").textContent = axisUnit(this.bar.range()[1], shown.units);
    element("colours").value = shown.colours;
    // In the unit of the axis, which the caption names.
    element("low").value = axisNumber(shown.window[0], this.bar.range()[1]);
    element("high").value = axisNumber(shown.window[1], this.bar.range()[1]);
    element("slice").value = this.voxel[2];
    element("slice-label").textContent = `${this.voxel[2] * this.sliceStep + 1} of ${this.slices}`;
    element("frame").value = this.frame;
    element("frame-label").textContent = this.frameLabel();
  }

  /** Where the frame slider stands along each axis before the last: "3 of 5, 1 of 2". */
  frameLabel() {
    let rest = this.frame * this.frameStep;
    const places = this.axes.slice(0, -1).reverse().map(([, size]) => {
      const place = `${(rest % size) + 1} of ${size}`;
      rest = Math.floor(rest / size);
      return place;
    });
    return places.reverse().join(", ");
  }

  /** Value and interval of every quantity at one voxel; voxels are counted from 0, as in the files. */
  readOut(voxel) {
    const index = this.indexOf(voxel);
    const [x, y, z] = [voxel[0], voxel[1], voxel[2] * this.sliceStep];
    const place = `x ${x}  y ${y}${this.slices > 1 ? `  z ${z}` : ""}`;
    element("place").textContent = place;
    element("side").textContent = this.inside[index] ? "inside the object" : "background";
    this.quantities.forEach((quantity, k) => {
      const row = element("readout").children[k];
      this.write(row, quantity, index, "", this.factors);
      if (!this.second) return;
      const other = this.otherOf(quantity);
      this.write(row, other, index, ".second", this.second.factors);
      const ratio = formatNumber(other.values[index] / quantity.values[index], 3);
      row.querySelector(".ratio").textContent = quantity === this.base || quantity.rule !== null ? ratio : "";
    });
  }

  write(row, quantity, index, place, factors) {
    const interval = intervalAt(quantity, index, factors);
    row.querySelector(`.value${place}`).textContent = formatNumber(quantity.values[index]);
    const cell = row.querySelector(`.interval${place}`);
    if (quantity.rule === null) cell.textContent = "";
    else if (interval === null) cell.textContent = "unknown";
    else cell.textContent = interval[0] === interval[1] ? "exact" : formatInterval(interval);
  }
}

/** Fill in the values of a map's quantities; `prefix` is that of its volumes. */
async function unpackQuantities(quantities, prefix) {
  const freedoms = {};
  for (const quantity of quantities) {
    quantity.values = await unpackFloats(prefix + quantity.name);
    if (typeof quantity.freedom === "string") {
      freedoms[quantity.freedom] ??= await unpackFloats(prefix + quantity.freedom);
      quantity.freedom = freedoms[quantity.freedom];
    }
    quantity.fullWindow = quantity.window;
    [quantity.base] = quantities;
  }
}

/** Ratio of the second map to the first, NaN where there is none, and the window around 1 that holds nearly all of it. */
function ratioOf(first, second, inside) {
  const values = first.values.map((value, index) => {
    const ratio = second.values[index] / value;
    return Number.isFinite(ratio) && ratio > 0 ? ratio : NaN;
  });
  const reach = values.filter((value, index) => inside[index] && value > 0).map((value) => Math.abs(Math.log(value))).sort();
  const most = Math.max(Math.exp(reach[Math.floor(0.99 * (reach.length - 1))] ?? 0), SMALLEST_REACH);
  return { values, window: [1 / most, most] };
}

function element(id) {
  return document.getElementById(id);
}

/** Tells readers and tests what happened. */
function setStatus(status) {
  document.documentElement.dataset.status = status;
  if (status !== "ready") {
    element("failure").hidden = false;
    element("failure").textContent = `The viewer could not start (${status}). The tables below are complete.`;
  }
}

window.addEventListener("error", (event) => setStatus(event.message));
document.addEventListener("securitypolicyviolation", (event) => setStatus(`blocked: ${event.blockedURI}`));
window.addEventListener("unhandledrejection", (event) => setStatus(String(event.reason)));

/** Build the page; `report` is there for the console. */
function start(kind) {
  window.report = new kind(JSON.parse(element("settings").textContent));
  return window.report.start().then(() => setStatus("ready"));
}
