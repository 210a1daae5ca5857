// Walks through maps, draws regions and asks the server for their exact σ.

const REGION_COLOUR = "#ffd43b";
const SHAPES = ["ellipse", "box", "freehand"];
const ROWS = [
  ["mean", "mean of |x|", ({ mean }) => formatNumber(mean, 5)],
  ["std", "σ of the mean", ({ std }) => formatNumber(std)],
  ["interval", "95 % interval", ({ interval }) => interval && formatInterval(interval, 5)],
  ["snr", "SNR of the mean", ({ snr }) => formatNumber(snr)],
  ["correlation", "σ / uncorrelated", ({ std, uncorrelated }) => formatNumber(std / uncorrelated, 3)],
];

class Review extends Report {
  constructor(settings) {
    super(settings);
    this.layout = "beside";
    this.tool = null;
    this.drawing = null;
    this.region = null;
    this.asked = null;
  }

  async start() {
    await super.start();
    this.maps = [this.map, this.secondMap].filter(Boolean);
    for (const [id, name] of [["before", this.before], ["behind", this.behind]]) {
      element(id).disabled = name === null;
      element(id).addEventListener("click", () => this.go(name, this.secondMap));
    }
    element("map").addEventListener("change", (event) => this.go(event.target.value, this.secondMap));
    element("second-map").addEventListener("change", (event) => this.go(this.map, event.target.value));
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.addEventListener("click", () => this.take(button.dataset.tool));
    }
    element("clear").addEventListener("click", () => this.clear());
    element("keep").addEventListener("click", () => this.keep());
  }

  // -- maps ------------------------------------------------------------------------------------------------

  /** To another map, with the same voxel, quantity, layout and, if it was changed, window. */
  go(map, second) {
    if (!map) return;
    const asked = new URLSearchParams({ map });
    if (second && second !== map) asked.set("second", second);
    location.href = `?${asked}#${this.address()}`;
  }

  address() {
    const [x, y, z] = this.voxel;
    const { shown } = this;
    const asked = { voxel: [x, y, z * this.sliceStep, this.frame * this.frameStep], quantity: shown.name };
    if (this.layouts().includes(this.layout)) asked.layout = this.layout;
    if (shown.window !== shown.fullWindow) asked.window = shown.window;
    return new URLSearchParams(asked);
  }

  keys() {
    return [
      ...super.keys(),
      [["p", "n"], "previous, next map", (key) => this.go(key === "n" ? this.behind : this.before, this.secondMap)],
      [["e", "x", "f"], "draw an ellipse, a box, freehand", (key) => this.take(SHAPES["exf".indexOf(key)])],
      [["Escape"], "clear the region", () => this.clear()],
    ];
  }

  // -- drawing ---------------------------------------------------------------------------------------------

  /** The next drag draws a region. */
  take(tool) {
    this.tool = this.tool === tool ? null : tool;
    this.showTool();
    if (this.tool) this.say(`Drag on an image to draw: ${this.tool}.`);
  }

  showTool() {
    element("viewer").classList.toggle("drawing", this.tool !== null);
    for (const button of document.querySelectorAll("[data-tool]")) {
      button.setAttribute("aria-pressed", String(button.dataset.tool === this.tool));
    }
    element("clear").disabled = element("keep").disabled = this.region === null;
  }

  listen(view) {
    const { canvas } = view;
    const draws = (event) => this.tool && view.through === 2 && (this.drawing || event.button === 0);
    const take = (event) => {
      event.preventDefault();
      event.stopImmediatePropagation();
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (!draws(event)) return;
      take(event);
      canvas.setPointerCapture(event.pointerId);
      this.drawing = [view.pointAt(event)];
      this.sketch();
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.drawing) return;
      take(event);
      this.drawing.push(view.pointAt(event));
      this.sketch();
    });
    for (const kind of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(kind, (event) => {
        if (!this.drawing) return;
        take(event);
        this.drawing = null;
        this.tool = null;
        this.showTool();
        this.measure();
      });
    }
    super.listen(view);
  }

  sketch() {
    const size = this.size.slice(0, 2);
    const voxels = voxelsIn(this.tool, this.drawing, size);
    this.region = { voxels, slice: this.voxel[2], frame: this.frame, rows: rowsOf(voxels, size) };
    this.region.count = this.region.rows.reduce((sum, [, first, behind]) => sum + behind - first, 0);
    element("region-size").textContent = `${this.region.count} voxels`;
    this.views.forEach((view) => view.paint());
  }

  paintOver(pen, view, place) {
    const { region } = this;
    if (!region || view.through !== 2 || region.slice !== this.voxel[2] || region.frame !== this.frame) return;
    outline(pen, region.voxels, view.size, place);
    pen.lineWidth = 2;
    pen.strokeStyle = REGION_COLOUR;
    pen.stroke();
  }

  clear() {
    this.asked?.abort();
    this.region = this.drawing = this.tool = null;
    element("region-size").textContent = "";
    document.querySelector(".measured").hidden = true;
    this.showTool();
    this.say("Choose a shape, then draw it on an image.");
    this.draw();
  }

  /** The mask as a file, for `mrnoise roi --region`. */
  keep() {
    const { shapeOfImage: shape, region, size } = this;
    const bytes = new Uint8Array(shape.reduce((product, n) => product * n, 1));
    const place = region.frame * this.frameStep * this.slices + region.slice * this.sliceStep;
    bytes.set(region.voxels, place * size[0] * size[1]);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(npy(shape, bytes));
    link.download = "region.npy";
    link.click();
    URL.revokeObjectURL(link.href);
  }

  // -- measuring -------------------------------------------------------------------------------------------

  say(words, missing = false) {
    element("region-status").textContent = words;
    element("region-status").classList.toggle("missing", missing);
  }

  /** Ask for the mean and its exact σ, of both maps where there are two. */
  async measure() {
    const { region } = this;
    if (!region || region.count === 0) return this.clear();
    this.asked?.abort();
    this.asked = new AbortController();
    const { signal } = this.asked;
    const found = this.maps.map(() => ({}));
    this.fill(found);
    element("region-status").dataset.state = "asked";
    const said = [];
    try {
      for (const [k, map] of this.maps.entries()) said.push(await this.ask(map, found, k, signal));
    } catch (error) {
      if (signal.aborted) return null;
      said.push({ words: `The server does not answer (${error.message}): is mrnoise review still running?`, missing: true });
    }
    const names = this.maps.length > 1 ? ["A: ", "B: "] : [""];
    this.say(said.map(({ words }, k) => `${names[k] ?? ""}${words}`).join(" "), said.some(({ missing }) => missing));
    element("region-status").dataset.state = "answered";
    return null;
  }

  /** One map: fills in what comes, says each step with the time it takes; what there is to say at the end. */
  async ask(map, found, k, signal) {
    const { frame, slice, rows } = this.region;
    const body = JSON.stringify({ map, frame: frame * this.frameStep, slice: slice * this.sliceStep, rows });
    const started = performance.now();
    let step = "asking";
    const tick = () => this.say(`${step} … ${((performance.now() - started) / 1000).toFixed(0)} s`);
    const clock = setInterval(tick, 250);
    try {
      const answer = await fetch("region", { method: "POST", body, signal });
      if (!answer.ok) return { words: textOf(await answer.text()), missing: true };
      for await (const line of linesOf(answer.body)) {
        if (line.step) step = line.step;
        tick();
        Object.assign(found[k], line.map ?? line);
        this.fill(found);
      }
    } finally {
      clearInterval(clock);
    }
    const { missing, words, most } = found[k];
    if (missing === undefined) {
      return { words: `Exact to first order in the noise, with the correlation between voxels: one backward pass through ${words}.` };
    }
    const bound = `Without scan and reconstruction the σ of this mean cannot be given: the map does not say how the noise of its voxels is correlated. It is at most about ${formatNumber(most, 3)}, as if all of them were fully correlated.`;
    return { words: `${missing} ${bound}`, missing: true };
  }

  fill(found) {
    document.querySelector(".measured").hidden = false;
    const heads = found.length > 1 ? ["", "A", "B"] : [];
    element("measured-head").replaceChildren(rowOf("th", heads));
    const rows = ROWS.map(([name, title, text]) => {
      const row = rowOf("td", [title, ...found.map((one) => text(one) ?? "–")]);
      row.dataset.row = name;
      found.forEach((one, k) => {
        if (name in one) row.cells[k + 1].dataset.value = String(one[name]);
      });
      return row;
    });
    element("measured").replaceChildren(...rows);
  }
}

function rowOf(kind, texts) {
  const row = document.createElement("tr");
  texts.forEach((text, k) => {
    const cell = document.createElement(k === 0 ? "th" : kind);
    cell.textContent = text;
    row.append(cell);
  });
  return row;
}

/** What a page of the server says. */
function textOf(page) {
  const found = new DOMParser().parseFromString(page, "text/html");
  return `${found.querySelector("h1")?.textContent}: ${found.querySelector("p")?.textContent}`;
}

/** Objects of a body that has one a line, as they come. */
async function* linesOf(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}

start(Review);
