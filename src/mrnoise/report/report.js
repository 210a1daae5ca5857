"use strict";
// The page: state, controls and the readout of the voxel under the pointer.

class Report {
  constructor(settings) {
    const [frames, nz, ny, nx] = settings.shape;
    Object.assign(this, settings);
    this.size = [nx, ny, nz];
    this.strides = [1, nx, nx * ny];
    this.frameCount = frames;
    this.spacing = [settings.spacing[2], settings.spacing[1], settings.spacing[0] * settings.sliceStep];
    this.voxel = [Math.floor(nx / 2), Math.floor(ny / 2), settings.slice];
    this.frame = 0;
    this.opacity = 1;
    this.masked = true;
    this.tables = Object.fromEntries(Object.entries(settings.colourMaps).map(([n, t]) => [n, colourTable(t)]));
  }

  /** Unpack every volume, then build the page. */
  async start() {
    this.inside = await unpackBytes("inside");
    const freedoms = {};
    for (const quantity of this.quantities) {
      quantity.values = await unpackFloats(quantity.name);
      if (typeof quantity.freedom === "string") {
        freedoms[quantity.freedom] ??= await unpackFloats(quantity.freedom);
        quantity.freedom = freedoms[quantity.freedom];
      }
      quantity.fullWindow = quantity.window;
    }
    this.base = this.quantities[0];
    this.select(this.quantities[1]);
    this.views = [new View(element("plane-z"), "xyz", false, this)];
    if (this.volume) {
      element("viewer").classList.add("volume");
      this.views.push(new View(element("plane-y"), "xzy", true, this), new View(element("plane-x"), "yzx", true, this));
    }
    this.bar = new Histogram(element("histogram"), this);
    this.buildReadout();
    this.buildControls();
    this.views.forEach((view) => this.listen(view));
    this.readAddress();
    window.addEventListener("hashchange", () => this.readAddress());
    window.addEventListener("resize", () => this.draw());
  }

  get colours() {
    return this.tables[this.shown.colours];
  }

  frameOffset() {
    return this.frame * this.strides[2] * this.size[2];
  }

  indexOf([x, y, z]) {
    return this.frameOffset() + x * this.strides[0] + y * this.strides[1] + z * this.strides[2];
  }

  // -- changes ---------------------------------------------------------------------------------------------

  show(name) {
    this.select(this.quantities.slice(1).find((quantity) => quantity.name === name) ?? this.shown);
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

  step(view, by) {
    const voxel = [...this.voxel];
    voxel[view.through] += by;
    this.moveTo(voxel);
  }

  /** #voxel=x,y,z or x,y,z,frame (numbers of the full image) and #quantity=snr, joined by "&". */
  readAddress() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const numbers = (asked.get("voxel") ?? "").split(",").map(Number);
    if (asked.has("quantity")) this.show(asked.get("quantity"));
    if (numbers.length >= 3 && numbers.every(Number.isFinite)) {
      this.frame = Math.min(Math.max(Math.round((numbers[3] ?? 0) / this.frameStep), 0), this.frameCount - 1);
      this.moveTo([numbers[0], numbers[1], numbers[2] / this.sliceStep]);
    } else {
      this.draw();
    }
  }

  // -- page ------------------------------------------------------------------------------------------------

  listen(view) {
    let turned = 0;
    view.canvas.addEventListener("pointermove", (event) => {
      const voxel = view.voxelAt(event);
      if (voxel && event.buttons === 1) this.moveTo(voxel);
      else this.readOut(voxel ?? this.voxel);
    });
    view.canvas.addEventListener("pointerleave", () => this.readOut(this.voxel));
    view.canvas.addEventListener("pointerdown", (event) => {
      const voxel = view.voxelAt(event);
      if (voxel) this.moveTo(voxel);
    });
    view.canvas.addEventListener(
      "wheel",
      (event) => {
        if (this.size[view.through] === 1) return;
        event.preventDefault();
        turned += event.deltaY;
        // A touchpad sends many small turns.
        if (Math.abs(turned) < 30) return;
        this.step(view, Math.sign(turned));
        turned = 0;
        this.readOut(view.voxelAt(event) ?? this.voxel);
      },
      { passive: false },
    );
  }

  buildReadout() {
    const rows = this.quantities.map((quantity) => {
      const row = document.createElement("tr");
      row.dataset.quantity = quantity.name;
      row.title = quantity.definition;
      for (const kind of ["name", "value", "interval", "units"]) {
        row.insertCell().className = kind;
      }
      row.cells[0].textContent = quantity.title;
      row.cells[3].textContent = quantity.units === "1" ? "" : quantity.units;
      if (quantity !== this.base) row.addEventListener("click", () => this.show(quantity.name));
      return row;
    });
    element("readout").replaceChildren(...rows);
  }

  buildControls() {
    for (const quantity of this.quantities.slice(1)) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = quantity.title;
      button.dataset.quantity = quantity.name;
      button.addEventListener("click", () => this.show(quantity.name));
      element("quantities").append(button);
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
    this.buildSlider("frame", this.frameCount, (value) => {
      this.frame = value;
      this.draw();
    });
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
      const cells = element("readout").children[k].cells;
      cells[1].textContent = formatNumber(quantity.values[index]);
      const interval = intervalAt(quantity, index, this.factors);
      if (quantity.rule === null) cells[2].textContent = "";
      else if (interval === null) cells[2].textContent = "unknown";
      else cells[2].textContent = interval[0] === interval[1] ? "exact" : formatInterval(interval);
    });
  }
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
new Report(JSON.parse(element("settings").textContent)).start().then(() => setStatus("ready"));
