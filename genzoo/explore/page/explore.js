// The latent z is one Float32Array; whatever changes it asks for a new picture, and the newest answer is shown.
const token = new URLSearchParams(location.search).get("token");
const $ = id => document.getElementById(id);
const ask = async (path, body) => {
  const answer = await fetch(path, { method: body ? "POST" : "GET", body, headers: { "X-Token": token } });
  if (!answer.ok) throw new Error(await answer.text());
  return answer;
};
const latent = async path => new Float32Array(await (await ask(path)).arrayBuffer());

let about, z, made, painted = {}, ends = {}, shownVariables = 16;

// --- pictures ---

const COLORS = ["1a0044", "132467", "004975", "006a84", "048b91", "1bae96", "70cb92", "b4e491", "f6f998"]
  .map(code => [0, 2, 4].map(k => parseInt(code.slice(k, k + 2), 16)));

function mapColor(value) {
  const at = value / 255 * (COLORS.length - 1), k = Math.min(Math.floor(at), COLORS.length - 2);
  return COLORS[k].map((low, c) => low + (at - k) * (COLORS[k + 1][c] - low));
}

function paint(canvas, pixels, channels, asMap) {
  const { height, width } = about;
  canvas.width = width;
  canvas.height = height;
  const image = new ImageData(width, height);
  for (let k = 0; k < width * height; k++) {
    const one = pixels.subarray(k * channels, (k + 1) * channels);
    const rgb = channels >= 3 ? one : asMap ? mapColor(one[0]) : [one[0], one[0], one[0]];
    image.data.set([rgb[0], rgb[1], rgb[2], 255], 4 * k);
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
}

const ofKind = kind => about.parts.filter(part => part.kind === kind);

function current() {
  // The parts as they are shown: painted maps, swapped branches, and the composition that follows.
  const shown = { ...made };
  for (const [name, edits] of Object.entries(painted)) {
    const part = about.parts.find(one => one.name === name);
    shown[name] = made[name].slice();
    for (const [k, value] of edits)
      for (let c = 0; c < part.channels; c++) shown[name][k * part.channels + c] = value;
  }
  const isPainted = Object.values(painted).some(edits => edits.size), isSwapped = $("swap").checked;
  if (isPainted && ofKind("map").length > 1) balance(shown);
  if (isPainted || isSwapped) compose(shown, isSwapped);
  $("changed").textContent = isPainted || isSwapped ? `(${[isPainted && "painted", isSwapped && "swapped"].filter(Boolean).join(", ")})` : "";
  return shown;
}

function balance(shown) {
  // Of several maps, those that were not painted share what the painted ones leave.
  const maps = ofKind("map"), size = about.height * about.width;
  for (let k = 0; k < size; k++) {
    const fixed = maps.filter(map => painted[map.name]?.has(k));
    if (!fixed.length) continue;
    const rest = maps.filter(map => !fixed.includes(map)), at = map => k * map.channels;
    const left = Math.max(0, 255 - fixed.reduce((sum, map) => sum + shown[map.name][at(map)], 0));
    const sum = rest.reduce((total, map) => total + made[map.name][at(map)], 0);
    for (const map of rest) {
      shown[map.name] = shown[map.name] === made[map.name] ? made[map.name].slice() : shown[map.name];
      for (let c = 0; c < map.channels; c++) shown[map.name][at(map) + c] = sum ? left * made[map.name][at(map) + c] / sum : left / rest.length;
    }
  }
}

function compose(shown, swapped) {
  const maps = ofKind("map"), branches = ofKind("branch"), channels = about.parts[0].channels;
  const y = shown.y = new Uint8ClampedArray(made.y.length);
  for (let k = 0; k < y.length; k++) {
    const pixel = Math.floor(k / channels), c = k % channels;
    const weight = map => shown[map.name][pixel * map.channels + (map.channels > 1 ? c : 0)] / 255;
    const weights = maps.length === 1 ? [weight(maps[0]), 1 - weight(maps[0])] : maps.map(weight);
    y[k] = weights.reduce((sum, w, n) => sum + w * shown[branches[(n + (swapped ? 1 : 0)) % branches.length].name][k], 0);
  }
}

function show() {
  const shown = current();
  for (const part of about.parts) paint($(part.name === "y" ? "y" : `part-${part.name}`), shown[part.name], part.channels, part.kind === "map");
  $("y").setAttribute("aria-label", `The model's image at this latent${$("changed").textContent}`);
}

let busy = false, again = false;

async function refresh() {
  if (busy) return void (again = true);
  busy = true;
  const start = performance.now();
  try {
    const pixels = new Uint8ClampedArray(await (await ask("/decode", z)).arrayBuffer());
    made = {};
    let from = 0;
    for (const part of about.parts) {
      const count = about.height * about.width * part.channels;
      made[part.name] = pixels.subarray(from, from + count);
      from += count;
    }
    show();
    const took = performance.now() - start;
    $("state").textContent = `${took.toFixed(0)} ms`;
    $("state").className = "";
    document.body.dataset.took = took;
    document.body.dataset.drawn = 1 + Number(document.body.dataset.drawn || 0);
  } catch (error) {
    $("state").textContent = error.message;
    $("state").className = "bad";
  }
  busy = false;
  if (again) {
    again = false;
    refresh();
  }
}

// --- the latent ---

const valueOf = variable => {
  const own = z.subarray(variable.index * about.elements, (variable.index + 1) * about.elements);
  return own.reduce((sum, value) => sum + value, 0) / about.elements;
};

function move(variable, value) {
  const by = value - valueOf(variable);
  for (let k = 0; k < about.elements; k++) z[variable.index * about.elements + k] += by;
}

function go(to) {
  z = to.slice();
  for (const label of $("sliders").children) place(label);
  refresh();
}

function place(label) {
  const value = valueOf(label.variable);
  label.querySelector("input").value = value;
  label.querySelector("output").textContent = value.toFixed(2);
}

function makeSliders() {
  const chosen = about.variables.slice(0, shownVariables);
  $("sliders").replaceChildren(...chosen.map(variable => {
    const label = document.createElement("label"), input = document.createElement("input");
    const name = document.createElement("span"), output = document.createElement("output");
    const reach = Math.max(3 * variable.spread, 0.5);
    Object.assign(input, { type: "range", min: variable.center - reach, max: variable.center + reach, step: "any" });
    name.textContent = `z${variable.index}`;
    label.title = `standard deviation over images ${variable.spread.toFixed(3)}`;
    label.variable = variable;
    label.append(name, input, output);
    input.addEventListener("input", () => {
      move(variable, Number(input.value));
      output.textContent = Number(input.value).toFixed(2);
      refresh();
    });
    place(label);
    return label;
  }));
  $("more").hidden = shownVariables >= about.variables.length;
}

function between(a, b, t) {
  // Along the great circle where the prior is a standard normal, as genzoo/interpolation.py.
  const norm = v => Math.sqrt(v.reduce((sum, value) => sum + value * value, 0)), na = norm(a), nb = norm(b);
  const straight = a.map((value, k) => value + t * (b[k] - value));
  if (!about.spherical || !na || !nb) return straight;
  const cosine = a.reduce((sum, value, k) => sum + value * b[k], 0) / na / nb, angle = Math.acos(Math.min(1, Math.max(-1, cosine)));
  if (Math.sin(angle) < 1e-6) return straight;
  const [u, v] = [Math.sin((1 - t) * angle), Math.sin(t * angle)].map(part => part / Math.sin(angle)), length = na + t * (nb - na);
  return a.map((value, k) => (u * value / na + v * b[k] / nb) * length);
}

// --- brush ---

function brushAt(part, x, y) {
  const radius = Number($("brush-size").value) / 2, value = Math.round(255 * $("brush-value").value);
  const edits = painted[part.name] ??= new Map();
  for (let row = 0; row < about.height; row++)
    for (let column = 0; column < about.width; column++)
      if (Math.hypot(row + 0.5 - y, column + 0.5 - x) <= Math.max(radius, 0.71)) edits.set(row * about.width + column, value);
  show();
}

function makeBrush(canvas, part) {
  let cursor = [about.width / 2, about.height / 2];
  const at = event => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width * about.width, (event.clientY - box.top) / box.height * about.height];
  };
  canvas.tabIndex = 0;
  canvas.setAttribute("aria-label", `Map ${part.name}. Arrow keys move the brush, the space bar paints.`);
  canvas.addEventListener("pointerdown", event => {
    canvas.setPointerCapture(event.pointerId);
    brushAt(part, ...(cursor = at(event)));
  });
  canvas.addEventListener("pointermove", event => { if (event.buttons) brushAt(part, ...(cursor = at(event))); });
  canvas.addEventListener("keydown", event => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) cursor = [Math.min(about.width, Math.max(0, cursor[0] + step[0])), Math.min(about.height, Math.max(0, cursor[1] + step[1]))];
    else if (event.key === " ") brushAt(part, ...cursor);
    else return;
    event.preventDefault();
    if (step) {
      show();
      const pen = canvas.getContext("2d");
      pen.strokeStyle = "#f0975a";
      pen.strokeRect(Math.floor(cursor[0]) - 0.5, Math.floor(cursor[1]) - 0.5, 2, 2);
    }
  });
}

// --- save ---

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function savePng() {
  const canvases = [...document.querySelectorAll(".stage canvas")], whole = document.createElement("canvas");
  whole.width = canvases.length * (about.width + 2) - 2;
  whole.height = about.height;
  canvases.forEach((canvas, k) => whole.getContext("2d").drawImage(canvas, k * (about.width + 2), 0));
  whole.toBlob(blob => save(blob, `${about.name}.png`));
}

async function saveNpz() {
  const shown = current();
  const body = new Blob([z, ...about.parts.map(part => shown[part.name])]);
  save(await (await ask("/npz", body)).blob(), `${about.name}.npz`);
}

// --- the page ---

async function makeImages() {
  const pixels = new Uint8ClampedArray(await (await ask("/images")).arrayBuffer());
  const count = about.height * about.width * about.channels;
  for (let k = 0; k < about.num_images; k++) {
    const button = document.createElement("button"), canvas = document.createElement("canvas");
    button.type = "button";
    button.setAttribute("aria-label", `Start from image ${k + 1}`);
    paint(canvas, pixels.subarray(k * count, (k + 1) * count), about.channels, false);
    button.append(canvas);
    button.addEventListener("click", async () => go(await latent(`/encode?image=${k}`)));
    $("images").append(button);
  }
}

async function begin() {
  about = await (await ask("/about")).json();
  $("name").textContent = about.name;
  document.title = `${about.name} · genzoo explore`;
  for (const part of about.parts.slice(1)) {
    const figure = document.createElement("figure"), canvas = document.createElement("canvas"), caption = document.createElement("figcaption");
    figure.className = part.kind;
    canvas.id = `part-${part.name}`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${part.kind} ${part.name}`);
    caption.textContent = part.name;
    figure.append(canvas, caption);
    $("parts").append(figure);
    if (about.composes && part.kind === "map") makeBrush(canvas, part);
  }
  $("brush").hidden = !about.composes;
  for (const name of about.samplers) {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: name });
    button.addEventListener("click", async () => go(await latent(`/sample?sampler=${encodeURIComponent(name)}&seed=${Math.floor(Math.random() * 1e9)}`)));
    $("draws").append(button);
  }
  $("draws").hidden = !about.samplers.length;
  for (const end of ["a", "b"]) $(`set-${end}`).addEventListener("click", () => {
    ends[end] = z.slice();
    $(`set-${end}`).setAttribute("aria-pressed", "true");
    $("way").disabled = !(ends.a && ends.b);
  });
  $("way").addEventListener("input", () => go(between(ends.a, ends.b, Number($("way").value))));
  $("unpaint").addEventListener("click", () => { painted = {}; show(); });
  $("swap").addEventListener("change", show);
  $("save-png").addEventListener("click", savePng);
  $("save-npz").addEventListener("click", saveNpz);
  z = await latent("/encode?image=0");
  makeSliders();
  $("more").addEventListener("click", () => { shownVariables = about.variables.length; makeSliders(); });
  await makeImages();
  await refresh();
  document.body.dataset.ready = "yes";
}

begin().catch(error => { $("state").textContent = error.message; $("state").className = "bad"; });
