// Makes the page of a dataset quicker to use: pan, zoom, play, click for a series. The page is whole without it.
const explore = document.getElementById("explore");
if (explore) start(explore, explore.dataset);

for (const button of document.querySelectorAll("[data-copy]")) {
  button.hidden = !navigator.clipboard;
  button.onclick = async () => {
    await navigator.clipboard.writeText(button.previousElementSibling.textContent);
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = "Copy"; }, 1500);
  };
}

function start(root, url) {
  const $ = (selector) => root.querySelector(selector);
  const page = (selector) => document.querySelector(selector);
  const view = $(".view"), data = $("image.data"), form = $(".choose"), time = $(".time"), where = $(".where");
  const home = view.dataset.home.split(" ").map(Number);
  const polar = url.crs ? around(url.crs === "EPSG:3995" ? 1 : -1) : null, widest = polar ? 2e7 : 360, fine = polar ? 0 : 4;
  let box = view.getAttribute("viewBox").split(" ").map(Number), series = null, timer = 0, playing = 0;
  const field = () => form.v ? form.v.value : new URLSearchParams(data.getAttribute("href").split("?")[1]).get("properties");
  const others = () => [...form.querySelectorAll("[name=subset]")].map((each) => each.value).join(",");
  const place = () => form.at.value.split(",").map(Number);
  const steps = form.t && form.t.options ? [...form.t.options].map((each) => each.value) : null;

  const query = () => {
    const found = new URLSearchParams(data.getAttribute("href").split("?")[1]);
    found.set("properties", field());
    if (form.t) found.set("datetime", form.t.value);
    if (form.z) found.set("subset", found.get("subset").replace(/\([^)]*\)/, `(${form.z.value})`));
    found.set("bbox", part());
    return found;
  };
  const corners = (of) => [of[0], -of[1] - of[3], of[0] + of[2], -of[1]].map((each) => +each.toFixed(fine)).join(",");
  const part = () => corners(box);
  const picture = (at) => { const asked = query(); if (at) asked.set("datetime", at); return `${url.map}?${asked}`; };
  const address = () => {
    const kept = new URLSearchParams();
    if (form.v) kept.set("v", form.v.value);
    if (form.t) kept.set("t", form.t.value);
    if (form.z) kept.set("z", form.z.value);
    if (others()) kept.set("subset", others());
    kept.set("at", form.at.value);
    for (const name of ["look", "range"]) if (form[name].value) kept.set(name, form[name].value);
    if (url.name) kept.set("map", url.name);
    if (box.some((each, i) => Math.abs(each - home[i]) > 1e-6)) kept.set("bbox", part());
    return `${url.self}?${kept}`;
  };

  function frame() {
    view.setAttribute("viewBox", box.join(" "));
    clearTimeout(timer);
    timer = setTimeout(draw, 120);
  }
  function draw() {
    const href = picture(), next = new Image(), at = [...box];
    next.onload = () => {
      data.setAttribute("href", href);
      ["x", "y", "width", "height"].forEach((name, i) => data.setAttribute(name, at[i]));
    };
    next.src = href;
    const legend = page(".legend"), asked = new URLSearchParams(legend.getAttribute("src").split("?")[1]);
    if (asked.has("subset")) {
      asked.set("subset", query().get("subset"));
      legend.src = `${url.self}/legend?${asked}`;
    }
    shore();
    page("[data-link=picture]").href = href;
    page("[data-link=view]").href = address();
    history.replaceState(null, "", address());
    const profile = page("[data-profile]");
    if (profile) profile.src = `${url.plot}?${new URLSearchParams({ at: form.at.value, v: field(), t: form.t.value, ...(others() && { subset: others() }) })}`;
    inView();
    value();
  }
  async function inView() {
    const item = page("[data-in-view]"), asked = query(), turn = (lon) => +(((lon + 540) % 360 + 360) % 360 - 180).toFixed(4);
    for (const name of [...asked.keys()]) if (!["properties", "datetime", "subset", "bbox"].includes(name)) asked.delete(name);
    // West of east also where the map shows 180 degrees, and all around where it shows more than the world.
    const [west, south, east, north] = polar ? polar.within(box) : box[2] >= 360 ? [-180, -90, 180, 90] : [turn(box[0]), Math.max(-90, -box[1] - box[3]), turn(box[0] + box[2]), Math.min(90, -box[1])];
    asked.set("bbox", [west, south, east === -180 ? 180 : east, north].map((each) => +each.toFixed(4)).join(","));
    asked.set("f", "netcdf");
    const link = `${url.coverage}?${asked}`;
    const answer = await fetch(`${link}&estimate=true`);
    item.hidden = !answer.ok;
    if (!answer.ok) return;
    const bytes = (await answer.json()).bytes;
    item.querySelector("a").href = link;
    item.querySelector("[data-size]").textContent = bytes > 1e5 ? `about ${(bytes / 1e6).toFixed(1)} MB` : `about ${Math.ceil(bytes / 1e3)} kB`;
  }
  function plotted() {
    const asked = new URLSearchParams({ at: form.at.value, v: field() });
    if (form.z && form.t) asked.set("z", form.z.value);
    if (others()) asked.set("subset", others());
    const plot = page("img.plot");
    if (plot) plot.src = `${url.plot}?${asked}`;
    if (plot) plot.previousElementSibling.srcset = `${url.plot}?${asked}&w=360`;
    const alone = page("[data-link=plot]");
    if (alone) alone.href = `${url.plot}?${asked}&f=html`;
    if (plot) plot.alt = `Plot of ${field()} at ${form.at.value}. If nothing is drawn, there are no data at this place.`;
    const [lon, lat] = place();
    const [x, y] = polar ? polar.to(lon, lat) : [lon, -lat];
    for (const pin of root.querySelectorAll(".pin")) pin.setAttribute("d", `M${x} ${y}h0`);
    const values = new URLSearchParams({ coords: `POINT(${lon} ${lat})`, "parameter-name": field() });
    if (form.z) values.set("z", form.z.value);
    if (others()) values.set("subset", others());
    for (const link of document.querySelectorAll("[data-form]")) link.href = `${url.position}?${values}&f=${link.dataset.form}`;
    page("[data-at]").textContent = `${lon}, ${lat} (longitude, latitude)`;
    series = null;
    fetch(`${url.position}?${values}&f=covjson`).then((answer) => answer.ok ? answer.json() : null).then((found) => { series = found; value(); });
  }
  // In place of a broken picture, words say that nothing is there.
  const curve = page("img.plot");
  if (curve) curve.onload = curve.onerror = () => curve.closest(".plotted").classList.toggle("absent", !curve.naturalWidth);
  if (curve && curve.complete) curve.onload();
  const short = (number) => Math.abs(number) < 1e-3 && number ? number.toExponential(3).replace(/\.?0+e/, "e") : `${+number.toPrecision(6)}`;
  function value() {
    const range = series && series.ranges && series.ranges[field()], shown = page("[data-value]");
    shown.textContent = page("[data-unit]").textContent = "";
    if (!range || series.type !== "Coverage") return;
    const t = series.domain.axes.t, at = t && t.values ? t.values.findIndex((each) => form.t && each.startsWith(form.t.value)) : 0;
    mark(t && t.values, at);
    const found = range.values.length === 1 ? range.values[0] : range.values[at];
    if (found === undefined || (at < 0 && range.values.length > 1)) return;
    const about = series.parameters[field()], said = about.unit || {}, unit = (said.label || {}).en || said.symbol, { categories } = about.observedProperty;
    const coded = categories && categories.find((each) => [about.categoryEncoding[each.id]].flat().includes(found));
    shown.textContent = found === null ? "missing" : coded ? coded.label.en : typeof found === "number" ? short(found) : found;
    const text = unit ? unit.value || unit : "";
    page("[data-unit]").textContent = found === null || text === "1" ? "" : text;
  }
  // Where the time of the map is in the plot: its axis runs from 62 to 706 of 720, or to 346 of the 360 of a narrow window.
  const narrow = matchMedia("(max-width: 30rem)");
  narrow.onchange = value;
  function mark(times, at) {
    const line = page(".now"), wide = narrow.matches ? 360 : 720;
    if (!line) return;
    line.parentNode.setAttribute("viewBox", `0 0 ${wide} 320`);
    const when = (text) => { const [y, m, d] = text.split(/[-T]/, 3).map(Number), clock = text.slice(11, 19).split(":").map(Number); return Date.UTC(y, m - 1, d, ...(clock.length === 3 ? clock : [])); };
    const days = times && times.map(when), even = times && times.every((text, i) => new Date(days[i]).getUTCDate() === +text.slice(8, 10));
    const share = !times || times.length < 2 || at < 0 ? NaN : even ? (days[at] - days[0]) / (days.at(-1) - days[0]) : at / (times.length - 1);
    line.setAttribute("d", Number.isFinite(share) ? `M${(62 + (wide - 76) * share).toFixed(1)} 36V286` : "");
  }
  const degrees = (x, y) => polar ? polar.from(x, y) : [((x + 540) % 360) - 180, Math.max(-90, Math.min(90, -y))];
  const choose = (lon, lat) => { form.at.value = `${lon.toFixed(3)},${lat.toFixed(3)}`; plotted(); draw(); };
  const point = (event) => {
    const spot = new DOMPoint(event.clientX, event.clientY).matrixTransform(view.getScreenCTM().inverse());
    return [...degrees(spot.x, spot.y), spot];
  };
  function zoom(by, around) {
    if (by === "home") box = [...home];
    else {
      const factor = Math.min(by, widest / box[2]), [x, y] = around || [box[0] + box[2] / 2, box[1] + box[3] / 2];
      box = [x - (x - box[0]) * factor, y - (y - box[1]) * factor, box[2] * factor, box[3] * factor];
    }
    inside();
  }
  function inside() {
    if (polar) box = box.map((each, i) => Math.round(i < 2 ? Math.max(-1e7, Math.min(1e7 - box[i + 2], each)) : each));
    else {
      if (box[0] + box[2] / 2 > 180) box[0] -= 360;
      if (box[0] + box[2] / 2 < -180) box[0] += 360;
      box[1] = Math.max(-90, Math.min(90 - box[3], box[1]));
    }
    frame();
  }
  view.addEventListener("wheel", (event) => {
    event.preventDefault();
    const spot = point(event)[2];
    zoom(event.deltaY > 0 ? 1.25 : 0.8, [spot.x, spot.y]);
  }, { passive: false });
  let held = null;
  view.addEventListener("pointerdown", (event) => { held = { spot: point(event)[2], moved: false, x: event.clientX, y: event.clientY }; view.setPointerCapture(event.pointerId); });
  view.addEventListener("pointermove", (event) => {
    const [lon, lat, spot] = point(event);
    where.hidden = false;
    where.textContent = `${lon.toFixed(2)}, ${lat.toFixed(2)}`;
    if (!held || (!held.moved && Math.hypot(event.clientX - held.x, event.clientY - held.y) < 5)) return;
    held.moved = true;
    box[0] += held.spot.x - spot.x;
    box[1] += held.spot.y - spot.y;
    inside();
  });
  view.addEventListener("pointerup", (event) => {
    if (held && !held.moved) choose(...point(event));
    held = null;
  });
  view.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: [-0.1, 0], ArrowRight: [0.1, 0], ArrowUp: [0, -0.1], ArrowDown: [0, 0.1] }, move = moves[event.key];
    if (move) { box[0] += move[0] * box[2]; box[1] += move[1] * box[3]; inside(); }
    else if (event.key === "+" || event.key === "=") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else if (event.key === "Enter") choose(...degrees(box[0] + box[2] / 2, box[1] + box[3] / 2));
    else return;
    event.preventDefault();
  });
  $(".zoom").hidden = false;
  for (const button of root.querySelectorAll("[data-zoom]")) button.onclick = () => zoom(button.dataset.zoom === "home" ? "home" : +button.dataset.zoom);

  root.classList.add("quick");
  if (form.z) form.z.onchange = () => { plotted(); draw(); };
  const again = () => { location.href = `${address()}&f=html`; };
  for (const each of [form.v, form.look, form.range, ...form.querySelectorAll("[name=subset]")]) if (each) each.onchange = again;
  // A browser that goes back may show the page as it was left: with the new choice, but the old picture.
  addEventListener("pageshow", event => { if (event.persisted) location.reload(); });
  form.at.onchange = () => { plotted(); draw(); };
  if (steps) {
    const slider = time.querySelector("input"), label = time.querySelector("output");
    const go = (index) => {
      const at = Math.max(0, Math.min(steps.length - 1, index));
      slider.value = at;
      form.t.selectedIndex = at;
      label.textContent = form.t.options[at].textContent;
      page("[data-when]").textContent = label.textContent;
      draw();
      if (at + 1 < steps.length) new Image().src = picture(steps[at + 1]);
    };
    time.hidden = false;
    root.classList.add("stepped");
    slider.oninput = () => go(+slider.value);
    form.t.onchange = () => go(form.t.selectedIndex);
    for (const button of time.querySelectorAll("[data-step]")) button.onclick = () => go(+slider.value + +button.dataset.step);
    time.querySelector("[data-play]").onclick = (event) => {
      const stop = playing;
      clearInterval(playing);
      playing = stop ? 0 : setInterval(() => go((+slider.value + 1) % steps.length), 700);
      event.target.textContent = playing ? "❚❚" : "▶";
      event.target.setAttribute("aria-label", playing ? "Pause" : "Play");
    };
  }
  // The coast as a line of one pixel at every zoom.
  let drawn = "";
  async function shore() {
    const near = polar || box[2] < 120, y = polar ? -1e9 : -90, part = [...box];
    if (near) {
      part[0] -= box[2] / 4;
      part[1] = Math.max(y, box[1] - box[3] / 4);
      part[2] *= 1.5;
      part[3] = Math.min(-y, box[1] + box[3] * 1.25) - part[1];
    }
    const asked = near ? `${url.coast}?${new URLSearchParams({ bbox: corners(part), crs: url.crs || "CRS84", width: 1680 })}` : url.coast.replace("/coast.svg", "/assets/coast.svg");
    if (asked === drawn) return;
    drawn = asked;
    const answer = await fetch(asked);
    if (!answer.ok || asked !== drawn) return;
    const text = await answer.text(), size = /viewBox="0 0 ([0-9]+) ([0-9]+)"/.exec(text);
    for (const old of root.querySelectorAll(".coast, .fine")) old.remove();
    const places = near ? [`translate(${part[0]} ${part[1]}) scale(${part[2] / size[1]} ${part[3] / size[2]})`] : [-360, 0, 360].map((turn) => `translate(${turn} 0) scale(0.1)`);
    const put = (name, before, members, words = "") => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(members)) made.setAttribute(key, value);
      made.textContent = words;
      before.before(made);
    };
    for (const [, grid, d] of text.matchAll(/<path( class="grid")? d="([^"]*)"/g)) for (const transform of places) put("path", $(".pin"), { class: grid ? "coast grid" : "coast", d, transform });
    // Labels of 11 pixels on the screen.
    for (const [, x, y, words] of text.matchAll(/<text x="([0-9]+)" y="([0-9]+)">([^<]*)/g)) put("text", $(".pin"), { class: "coast", x, y, transform: places[0], "font-size": 11 * box[2] * size[1] / view.clientWidth / part[2] }, words);
    if (near) put("image", data, { class: "land fine", href: `${asked}&land=true`, x: part[0], y: part[1], width: part[2], height: part[3], preserveAspectRatio: "none" });
    view.classList.toggle("near", Boolean(near));
  }
  // The picture comes first.
  const first = new Image();
  first.onload = first.onerror = () => { shore(); plotted(); inView(); };
  first.src = data.getAttribute("href");
}

// The polar stereographic map of a pole, true at 71 degrees (EPSG:3995, EPSG:3031), with y pointing down.
function around(pole) {
  const E = 0.0818191908426215, turn = Math.PI / 180, ratio = (s) => ((1 - E * s) / (1 + E * s)) ** (E / 2);
  const t = (lat) => Math.tan(Math.PI / 4 - lat / 2) / ratio(Math.sin(lat));
  const scale = 6378137 * Math.cos(71 * turn) / Math.sqrt(1 - (E * Math.sin(71 * turn)) ** 2) / t(71 * turn);
  const to = (lon, lat) => { const r = scale * t(pole * lat * turn); return [r * Math.sin(lon * turn), pole * r * Math.cos(lon * turn)]; };
  const from = (x, y) => {
    const low = Math.hypot(x, y) / scale;
    let lat = Math.PI / 2 - 2 * Math.atan(low);
    for (let i = 0; i < 6; i++) lat = Math.PI / 2 - 2 * Math.atan(low * ratio(Math.sin(lat)));
    return [Math.atan2(x, pole * y) / turn, pole * lat / turn];
  };
  // The box in degrees around a part of the map.
  const within = ([x, y, w, h]) => {
    const edge = [...Array(41).keys()].flatMap((i) => [[x + w * i / 40, y], [x + w * i / 40, y + h], [x, y + h * i / 40], [x + w, y + h * i / 40]]).map((each) => from(...each));
    const inside = x < 0 && x + w > 0 && y < 0 && y + h > 0, middle = from(x + w / 2, y + h / 2)[0];
    const lon = edge.map((each) => middle + ((each[0] - middle + 540) % 360) - 180), lat = edge.map((each) => each[1]);
    if (inside) return pole > 0 ? [-180, Math.min(...lat), 180, 90] : [-180, -90, 180, Math.max(...lat)];
    const whole = (each) => ((each + 540) % 360) - 180;
    return [whole(Math.min(...lon)), Math.min(...lat), whole(Math.max(...lon)), Math.max(...lat)];
  };
  return { to, from, within };
}
