// Zoom into a wall: click an image, or Enter on it; arrows move. And buttons that copy a command.
const dialog = document.querySelector("dialog");
let wall, at = 0;

const images = tiles => [...tiles.querySelectorAll("i")];
const shown = () => [...wall.querySelectorAll(".tiles")].find(tiles => tiles.offsetParent);

function mark(k) {
  const all = images(shown());
  at = (k + all.length) % all.length;
  wall.querySelectorAll(".here").forEach(tile => tile.classList.remove("here"));
  all[at].classList.add("here");
  all[at].scrollIntoView({ block: "nearest", inline: "nearest" });
}

function zoom() {
  const parts = [...wall.querySelectorAll(".tiles")];
  dialog.querySelector("h2").textContent = `${wall.dataset.title}: image ${at + 1} of ${images(parts[0]).length}`;
  dialog.querySelector(".big").replaceChildren(...parts.map(tiles => {
    const figure = document.createElement("figure"), caption = document.createElement("figcaption");
    const tile = images(tiles)[at], copy = tile.cloneNode(), style = getComputedStyle(tiles);
    const [w, h] = ["--w", "--h"].map(name => parseFloat(style.getPropertyValue(name)));
    const factor = Math.min(innerWidth < 560 ? 130 : 224, innerWidth * 0.7) / Math.max(w, h);
    copy.className = tiles.dataset.sheet;
    copy.setAttribute("style", `${tile.getAttribute("style")};--columns:${style.getPropertyValue("--columns")};` +
      `--rows:${style.getPropertyValue("--rows")};--w:${w * factor};--h:${h * factor}`);
    if (tiles.classList.contains("crisp")) figure.className = "crisp";
    caption.textContent = tiles.dataset.part;
    figure.append(copy, caption);
    return figure;
  }));
  if (!dialog.open) dialog.showModal();
}

const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: "row", ArrowUp: "-row" };

document.addEventListener("click", event => {
  const tile = event.target.closest(".tiles i");
  if (tile) {
    wall = tile.closest(".wall");
    mark(images(shown()).indexOf(tile));
    zoom();
  }
  const copy = event.target.closest("button[data-copy]");
  if (copy) {
    const text = copy.parentElement.querySelector("code").textContent;
    navigator.clipboard.writeText(text).then(() => { copy.textContent = "Copied"; }, () => { copy.textContent = "Select it"; });
  }
});

document.addEventListener("keydown", event => {
  const tiles = event.target.closest?.(".tiles");
  if (!dialog.open && !tiles) return;
  if (tiles) wall = tiles.closest(".wall");
  const all = images(shown());
  let step = steps[event.key];
  if (typeof step === "string") {
    const down = all.findIndex(tile => tile.offsetTop > all[0].offsetTop);
    step = (step === "row" ? 1 : -1) * (down < 0 ? all.length : down);
  }
  if (step) mark(wall.querySelector(".here") ? at + step : 0);
  else if (event.key !== "Enter" || dialog.open) return;
  event.preventDefault();
  if (dialog.open || event.key === "Enter") zoom();
});

if (dialog) {
  dialog.querySelector("[data-step='-1']").addEventListener("click", () => { mark(at - 1); zoom(); });
  dialog.querySelector("[data-step='1']").addEventListener("click", () => { mark(at + 1); zoom(); });
}
