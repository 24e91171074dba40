// Keeps an open page true: parts marked data-live are fetched again when the server says that
// something has changed, and every half minute, for ages grow by themselves.
const EVERY_MS = 30_000, POLL_MS = 5_000, LEAST_MS = 700;
const lost = document.getElementById("lost");
const shown = new Map([...document.querySelectorAll("[data-live]")].map((part) => [part, part.innerHTML]));
let last = 0, waiting = null, asking = false, again = false, stream = null;

async function refresh() {
  if (asking) { again = true; return; }
  asking = true;
  last = Date.now();
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" }, signal: AbortSignal.timeout(20_000) });
    if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
    if (answer.ok) take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    lost.hidden = answer.status < 500;
  } catch {
    lost.hidden = false;
  } finally {
    asking = false;
    if (again) { again = false; schedule(); }
  }
}

function schedule() {
  waiting ??= setTimeout(() => { waiting = null; refresh(); }, Math.max(0, last + LEAST_MS - Date.now()));
}

function take(fresh) {
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    // Whoever is typing or pressing a button is not disturbed.
    const busy = (old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea, button")) || old.querySelector("button:active");
    if (!next || busy || next.innerHTML === shown.get(old)) continue;
    shown.set(old, next.innerHTML);
    const focused = old.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
    old.replaceChildren(...next.childNodes);
    if (focused) old.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    label(old);
  }
}

// On a narrow screen a row is a card, whose values need the names of their columns.
function label(part) {
  for (const table of part.querySelectorAll("table:not(.heat)")) {
    const names = [...table.querySelectorAll("thead th")].map((head) => head.textContent);
    for (const row of names.length ? table.tBodies[0].rows : []) {
      [...row.cells].forEach((cell, i) => { if (names[i] && cell.colSpan === 1) cell.dataset.label = names[i]; });
    }
  }
}
label(document);

function listen() {
  stream?.close();
  stream = null;
  if (document.hidden) return;
  stream = new EventSource("/live");
  stream.addEventListener("open", schedule);
  stream.addEventListener("change", schedule);
  // A browser gives up on answers that are no events, such as a proxy's: then it is asked anew.
  stream.addEventListener("error", () => { if (stream.readyState === EventSource.CLOSED) setTimeout(listen, POLL_MS); });
}

// A tab that nobody sees asks for nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) { stream?.close(); stream = null; } else if (!stream) { listen(); schedule(); }
});
if (document.querySelector("[data-live]")) {
  listen();
  schedule();
  setInterval(() => {
    const behind = Date.now() - last;
    if (!document.hidden && (behind > EVERY_MS || (stream?.readyState !== EventSource.OPEN && behind > POLL_MS))) schedule();
  }, 1000);
}

for (const place of document.querySelectorAll("[data-load]")) {
  fetch(place.dataset.load)
    .then((answer) => { if (!answer.ok || answer.redirected) throw new Error(answer.statusText); return answer.text(); })
    .then((text) => { place.replaceChildren(...new DOMParser().parseFromString(text, "text/html").body.childNodes); label(place); })
    .catch(() => { place.textContent = "The server does not answer."; })
    .finally(() => { place.dataset.loaded = "yes"; });
}

// A click on the header of a column sorts by it; a second click turns the order round.
document.addEventListener("click", (event) => {
  const header = event.target.closest("table.sortable thead th");
  if (!header) return;
  const body = header.closest("table").tBodies[0];
  const column = header.cellIndex;
  const down = header.getAttribute("aria-sort") === "ascending";
  for (const other of header.parentNode.cells) other.removeAttribute("aria-sort");
  header.setAttribute("aria-sort", down ? "descending" : "ascending");
  const value = (row) => row.cells[column]?.textContent.trim() ?? "";
  const compare = (one, two) => {
    const [a, b] = [value(one), value(two)];
    const [x, y] = [Number(a), Number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b) : x - y;
  };
  const rows = [...body.rows].sort((one, two) => (down ? -1 : 1) * compare(one, two));
  body.append(...rows);
});

// Tiles of a previewed mosaic: what is checked is asked for by name.
document.addEventListener("change", (event) => {
  if (!event.target.matches("[data-tile]")) return;
  const boxes = [...document.querySelectorAll("[data-tile]")];
  const taken = boxes.filter((box) => box.checked).map((box) => box.dataset.tile);
  document.getElementById("f-tiles").value = taken.join(",");
});

const log = document.querySelector("[data-log]");
function follow() {
  const lines = new EventSource(`${log.dataset.log}/stream`);
  lines.addEventListener("open", () => { log.textContent = ""; });
  lines.addEventListener("message", (event) => {
    const follows = log.scrollTop + log.clientHeight > log.scrollHeight - 30;
    log.append(`${event.data}\n`);
    if (follows) log.scrollTop = log.scrollHeight;
  });
  lines.addEventListener("end", () => { lines.close(); document.removeEventListener("visibilitychange", see); schedule(); });
  return lines;
}
// A browser has few connections for one server: a tab that nobody sees keeps none.
let lines = null;
function see() {
  if (document.hidden) { lines?.close(); lines = null; } else lines ??= follow();
}
if (log) {
  document.addEventListener("visibilitychange", see);
  see();
}

document.addEventListener("keydown", (event) => {
  if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (event.target.closest("input, select, textarea, [role=application], pre")) return;
  const link = { ArrowLeft: "prev", ArrowRight: "next" }[event.key];
  if (link) document.querySelector(`a[rel=${link}]`)?.click();
});

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
});

const clock = document.getElementById("clock");
const tick = () => { clock.textContent = `${new Date().toISOString().slice(0, 19).replace("T", " ")} UTC`; };
tick();
setInterval(tick, 1000);
