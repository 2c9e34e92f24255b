// Lets a box be drawn on a map instead of written. Without this script the four numbers do.
const field = document.getElementById("bbox");
const place = document.getElementById("drawn");
if (field && place) {
  const SVG = "http://www.w3.org/2000/svg";
  const made = (name, attributes) => {
    const found = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) found.setAttribute(key, value);
    return found;
  };
  const map = made("svg", { viewBox: "-180 -90 360 180", role: "img", "aria-label": "Map of the world: draw a box with the pointer" });
  map.append(made("image", { href: place.dataset.land, x: -180, y: -90, width: 360, height: 180 }));
  const boxes = [made("rect", {}), made("rect", {})];
  map.append(...boxes);
  const words = document.createElement("p");
  words.textContent = "Press, and draw the box with the pointer. Its four numbers are above.";
  place.append(map, words);
  place.hidden = false;
  const show = () => {
    const [west, south, east, north] = field.value.split(",").map(Number);
    const known = [west, south, east, north].every(Number.isFinite) && field.value.split(",").length === 4;
    const spans = !known ? [] : west <= east ? [[west, east]] : [[west, 180], [-180, east]];
    boxes.forEach((box, at) => {
      const span = spans[at];
      box.setAttribute("x", span ? span[0] : 0);
      box.setAttribute("y", known ? -north : 0);
      box.setAttribute("width", span ? span[1] - span[0] : 0);
      box.setAttribute("height", known ? Math.max(0, north - south) : 0);
    });
  };
  const at = (event) => {
    const edge = map.getBoundingClientRect();
    const x = ((event.clientX - edge.left) / edge.width) * 360 - 180;
    const y = 90 - ((event.clientY - edge.top) / edge.height) * 180;
    return [Math.max(-180, Math.min(180, x)), Math.max(-90, Math.min(90, y))];
  };
  let from = null;
  const draw = (event) => {
    if (!from) return;
    const to = at(event);
    const round = (value) => Math.round(value * 10) / 10;
    field.value = [Math.min(from[0], to[0]), Math.min(from[1], to[1]), Math.max(from[0], to[0]), Math.max(from[1], to[1])].map(round).join(",");
    show();
  };
  map.addEventListener("pointerdown", (event) => { from = at(event); map.setPointerCapture(event.pointerId); });
  map.addEventListener("pointermove", draw);
  map.addEventListener("pointerup", (event) => { draw(event); from = null; });
  field.addEventListener("input", show);
  show();
}
