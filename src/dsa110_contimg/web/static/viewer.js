// The mosaic on its page: Aladin Lite on our own HiPS where there is WebGL, else a plain picture
// that zooms and pans. Both show the same overlays and tell the value under the pointer.
const place = document.getElementById("viewer");
const under = document.getElementById("under");
const AGAIN_MS = 5000;
const COLOURS = ["#55e0ff", "#9dff8a", "#ffd24d"];

if (place) start().catch((error) => { under.textContent = `The picture cannot be shown: ${error.message}`; });

async function start() {
  const base = `/mosaics/${encodeURIComponent(place.dataset.name)}`;
  const answer = await fetch(`${base}/sky.json`);
  if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
  const sky = await answer.json();
  const viewer = (await withAladin(sky)) ?? new Picture(place, base, sky);
  viewer.onpoint = ask(base);
  offer(viewer, sky.overlays);
  place.dataset.ready = viewer.kind;
}

// Aladin ------------------------------------------------------------------------------------------

async function withAladin(sky) {
  if (!place.dataset.aladin || !place.dataset.hips || !hasWebGL()) return null;
  try {
    const { default: A } = await import(place.dataset.aladin);
    await A.init;
    return new Aladin(A, place, sky);
  } catch (error) {
    console.info(`Aladin Lite does not start here (${error}); a plain picture instead`);
    place.replaceChildren();
    return null;
  }
}

function hasWebGL() {
  const kept = new URLSearchParams(location.search).get("viewer");
  return kept !== "plain" && !!document.createElement("canvas").getContext("webgl2");
}

class Aladin {
  kind = "aladin";
  #layers = {};

  constructor(A, element, sky) {
    this.A = A;
    this.aladin = A.aladin(element, {
      survey: new URL(place.dataset.hips, location.origin).href, cooFrame: "ICRSd", target: `${sky.ra_deg} ${sky.dec_deg}`,
      fov: Math.min(60, sky.field_deg * 1.05), showProjectionControl: false, showLayersControl: false,
      showCooGridControl: true, showShareControl: false, showSimbadPointerControl: false, showStatusBar: false,
      showFrame: true, showFov: true, log: false, showContextMenu: false,
    });
    // Its buttons have pictures only.
    for (const control of element.querySelectorAll("button, select, input, img")) {
      if (control.matches("img")) control.alt ||= "";
      else if (!control.labels?.length && (control.matches("select") || !control.textContent.trim())) control.ariaLabel ??= control.title || control.name || control.className.replaceAll(/aladin-|-/g, " ").trim();
    }
    this.aladin.on("mouseMove", (at) => { if (at?.ra !== undefined) this.onpoint?.({ ra: at.ra, dec: at.dec }); });
    this.aladin.on("objectClicked", (object) => { if (object?.data?.href) location.href = object.data.href; });
  }

  show(name, colour, rows) {
    const layer = this.A.catalog({ name, color: colour, shape: "circle", sourceSize: 12 });
    layer.addSources(rows.ra_deg.map((ra, i) => this.A.source(ra, rows.dec_deg[i], { href: rows.id ? `/sources/${rows.id[i]}` : "" })));
    this.aladin.addCatalog(layer);
    this.#layers[name] = layer;
  }

  hide(name) {
    this.#layers[name]?.hide();
    delete this.#layers[name];
  }
}

// A plain picture -----------------------------------------------------------------------------------

class Picture {
  kind = "plain";
  #squares = new Map();
  #layers = new Map();
  #pointers = new Map();
  #drawn = 0;

  constructor(element, base, sky) {
    this.base = base;
    this.sky = sky;
    this.canvas = document.createElement("canvas");
    this.canvas.className = "plain";
    element.append(this.canvas);
    this.context = this.canvas.getContext("2d");
    new ResizeObserver(() => this.#fit()).observe(element);
    this.#fit();
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.#zoom(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => {
      this.#pointers.set(event.pointerId, event);
      element.setPointerCapture(event.pointerId);
      this.from = [event.offsetX, event.offsetY];
    });
    element.addEventListener("pointermove", (event) => this.#move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      element.addEventListener(end, (event) => { this.#pointers.delete(event.pointerId); if (end === "pointerup") this.#click(event); });
    }
    element.addEventListener("dblclick", (event) => this.#zoom(2, event.offsetX, event.offsetY));
    element.addEventListener("keydown", (event) => this.#key(event));
  }

  get #width() { return this.canvas.clientWidth; }
  get #height() { return this.canvas.clientHeight; }

  #fit() {
    const ratio = window.devicePixelRatio || 1;
    const [width, height] = [this.#width, this.#height];
    if (!width) return;
    this.canvas.width = width * ratio;
    this.canvas.height = height * ratio;
    this.ratio = ratio;
    if (!this.scale) {
      this.least = Math.min(width / this.sky.width, height / this.sky.height);
      this.scale = this.least;
      this.x = (width - this.sky.width * this.scale) / 2;
      this.y = (height - this.sky.height * this.scale) / 2;
    }
    this.#draw();
  }

  #zoom(factor, x, y) {
    const scale = Math.min(8, Math.max(this.least / 2, this.scale * factor));
    this.x = x - (x - this.x) * (scale / this.scale);
    this.y = y - (y - this.y) * (scale / this.scale);
    this.scale = scale;
    this.#draw();
  }

  #pan(x, y) {
    this.x += x;
    this.y += y;
    this.#draw();
  }

  #move(event) {
    const before = this.#pointers.get(event.pointerId);
    if (!before) {
      // A pixel reaches half a side to each side of its place.
      this.onpoint?.({ x: (event.offsetX - this.x) / this.scale - 0.5, y: (event.offsetY - this.y) / this.scale - 0.5 });
      return;
    }
    if (this.#pointers.size === 2) {
      const other = [...this.#pointers.values()].find((one) => one.pointerId !== event.pointerId);
      const apart = (one) => Math.hypot(one.offsetX - other.offsetX, one.offsetY - other.offsetY);
      this.#zoom(apart(event) / Math.max(1, apart(before)), (event.offsetX + other.offsetX) / 2, (event.offsetY + other.offsetY) / 2);
    } else {
      this.#pan(event.offsetX - before.offsetX, event.offsetY - before.offsetY);
    }
    this.#pointers.set(event.pointerId, event);
  }

  #click(event) {
    if (!this.from || Math.hypot(event.offsetX - this.from[0], event.offsetY - this.from[1]) > 4) return;
    for (const { rows } of this.#layers.values()) {
      const found = rows.id?.findIndex((_, i) => Math.hypot((rows.x[i] + 0.5) * this.scale + this.x - event.offsetX, (rows.y[i] + 0.5) * this.scale + this.y - event.offsetY) < 9) ?? -1;
      if (found >= 0) location.href = `/sources/${rows.id[found]}`;
    }
  }

  #key(event) {
    const step = 60, middle = [this.#width / 2, this.#height / 2];
    const act = {
      ArrowLeft: () => this.#pan(step, 0), ArrowRight: () => this.#pan(-step, 0), ArrowUp: () => this.#pan(0, step), ArrowDown: () => this.#pan(0, -step),
      "+": () => this.#zoom(1.5, ...middle), "=": () => this.#zoom(1.5, ...middle), "-": () => this.#zoom(1 / 1.5, ...middle),
    }[event.key];
    if (act) { event.preventDefault(); act(); }
  }

  show(name, colour, rows) { this.#layers.set(name, { colour, rows }); this.#draw(); }
  hide(name) { this.#layers.delete(name); this.#draw(); }

  // At once with the squares that are there, finer ones as they come.
  #draw() {
    const { context, sky, scale, ratio } = this;
    const wanted = Math.min(sky.levels - 1, Math.max(0, Math.floor(Math.log2(1 / (scale * ratio)))));
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, this.#width, this.#height);
    context.imageSmoothingEnabled = scale < 2;
    const side = sky.side * 2 ** wanted * scale;
    const columns = Math.ceil(sky.width / 2 ** wanted / sky.side), lines = Math.ceil(sky.height / 2 ** wanted / sky.side);
    const first = [Math.max(0, Math.floor(-this.x / side)), Math.max(0, Math.floor(-this.y / side))];
    const last = [Math.min(columns - 1, Math.floor((this.#width - this.x) / side)), Math.min(lines - 1, Math.floor((this.#height - this.y) / side))];
    this.#square(sky.levels - 1, 0, 0);
    for (let column = first[0]; column <= last[0]; column++) {
      for (let row = first[1]; row <= last[1]; row++) {
        this.#square(wanted, column, row);
        this.#paint(wanted, column, row, side);
      }
    }
    for (const { colour, rows } of this.#layers.values()) {
      context.strokeStyle = colour;
      context.lineWidth = 1.3;
      context.beginPath();
      rows.x.forEach((x, i) => {
        const [px, py] = [(x + 0.5) * scale + this.x, (rows.y[i] + 0.5) * scale + this.y];
        if (px > -10 && py > -10 && px < this.#width + 10 && py < this.#height + 10) { context.moveTo(px + 7, py); context.arc(px, py, 7, 0, 2 * Math.PI); }
      });
      context.stroke();
    }
    place.dataset.drawn = ++this.#drawn;
    place.dataset.missing = [...this.#squares.values()].filter((one) => one === "asked").length;
  }

  // A square, or its part of the finest one that is there above it.
  #paint(wanted, column, row, side) {
    for (let level = wanted; level < this.sky.levels; level++) {
      const shrink = 2 ** (level - wanted);
      const square = this.#squares.get(`${level}/${Math.floor(column / shrink)}/${Math.floor(row / shrink)}`);
      if (!(square instanceof ImageBitmap)) continue;
      const part = this.sky.side / shrink;
      const [left, top] = [(column % shrink) * part, (row % shrink) * part];
      const [width, height] = [Math.min(part, square.width - left), Math.min(part, square.height - top)];
      if (width > 0 && height > 0) {
        this.context.drawImage(square, left, top, width, height, this.x + column * side, this.y + row * side, (width / part) * side, (height / part) * side);
      }
      return;
    }
  }

  // Asks for a square once.
  #square(level, column, row) {
    const key = `${level}/${column}/${row}`;
    if (this.#squares.has(key)) return;
    this.#squares.set(key, "asked");
    fetch(`${this.base}/${key}.png`)
      .then((answer) => { if (!answer.ok) throw new Error(answer.statusText); return answer.blob(); })
      .then(createImageBitmap)
      .then((square) => { this.#squares.set(key, square); this.#draw(); },
        () => setTimeout(() => { this.#squares.delete(key); this.#draw(); }, AGAIN_MS));
  }
}

// Both ---------------------------------------------------------------------------------------------

// The last point wins; one question is under way at a time.
function ask(base) {
  let next = null, busy = false;
  const run = async () => {
    busy = true;
    while (next) {
      const asked = new URLSearchParams(next);
      next = null;
      try {
        under.textContent = said(await (await fetch(`${base}/value.json?${asked}`)).json());
      } catch { /* the page tells that the server does not answer */ }
    }
    busy = false;
  };
  return (point) => { next = point; if (!busy) run(); };
}

function said(told) {
  const mjy = (value) => (value === null || value === undefined ? "–" : `${(1e3 * value).toFixed(2)} mJy/beam`);
  if (told.ra_deg === null || told.dec_deg === null) return "outside the sky of this picture";
  return `RA ${told.ra_deg.toFixed(4)}° Dec ${told.dec_deg.toFixed(4)}°  ${mjy(told.flux_jy)}  noise ${mjy(told.rms_jy)}`;
}

function offer(viewer, overlays) {
  Object.entries(overlays).forEach(([name, rows], number) => {
    const colour = COLOURS[number % COLOURS.length];
    const box = Object.assign(document.createElement("input"), { type: "checkbox" });
    box.addEventListener("change", () => (box.checked ? viewer.show(name, colour, rows) : viewer.hide(name)));
    const label = document.createElement("label");
    label.append(box, ` ${name === "sources" ? "our sources" : `catalogue ${name}`} (${rows.ra_deg.length})`);
    document.getElementById("overlays").append(label);
    if (number === 0) box.click();
  });
}
