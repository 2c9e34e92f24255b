// Follows the jobs of this service with a key that stays in this tab. Every text is set as text, never as HTML.
const base = new URL("..", document.querySelector("script[src$='jobs.js']").src);
const one = (id) => document.getElementById(id);
const kept = "cubeport.key";
const phases = { queued: "waiting", planning: "planning", fetching: "fetching", checking: "checking", writing: "writing",
  measuring: "reading back", sealing: "finishing", committing: "publishing", done: "done" };
const following = new Map();
let key = sessionStorage.getItem(kept) || "";

const say = (text) => { one("said").textContent = text; one("said").hidden = !text; };

async function ask(path, options = {}) {
  const headers = { Accept: "application/json", ...(options.headers || {}) };
  if (key) headers["X-API-Key"] = key;
  const answer = await fetch(new URL(path, base), { ...options, headers });
  if (answer.ok) return answer;
  const problem = await answer.json().catch(() => ({ detail: `The service answers ${answer.status}.` }));
  throw Object.assign(new Error(problem.detail), { status: answer.status, problem });
}
const send = (path, body) => ask(path, { method: "POST", body: JSON.stringify(body),
  headers: { "Content-Type": "application/json", Prefer: "respond-async" } }).then((answer) => answer.json());

const element = (name, text, attributes = {}) => {
  const found = document.createElement(name);
  if (text) found.textContent = text;
  for (const [each, value] of Object.entries(attributes)) found.setAttribute(each, value);
  return found;
};

function shown(job) {
  const old = one(`job-${job.ingestion_id}`);
  const item = element("li", "", { id: `job-${job.ingestion_id}` });
  const head = element("p");
  head.append(element("strong", job.dataset_id), " ", element("span", job.status, { class: `state ${job.status}` }), " ",
    element("span", [job.action, (job.created_at || "").slice(0, 19).replace("T", " "), job.ingestion_id.slice(0, 8)].filter(Boolean).join(" · "), { class: "none" }));
  item.append(head);
  const open = ["accepted", "running", "retrying"].includes(job.status);
  if (open) {
    const told = job.progress || {};
    const bar = element("progress", "", { "aria-label": `Progress of ${job.dataset_id}` });
    if (told.total) { bar.max = told.total; bar.value = told.done || 0; }
    const amount = told.total ? ` ${Math.floor((100 * (told.done || 0)) / told.total)} %` : "";
    item.append(bar, element("p", (phases[told.phase] || told.phase || "waiting") + amount));
  }
  if (job.error) {
    item.append(element("p", job.error.detail));
    for (const each of (job.error.errors || []).slice(0, 5)) item.append(element("p", `${(each.loc || []).join(".")}: ${each.message}`));
  }
  for (const warning of job.warnings || []) item.append(element("p", warning.message || warning.detail || ""));
  const act = element("p");
  if (open && !job.cancel_requested) act.append(button("Cancel", job, () => ask(`ingestions/${job.ingestion_id}`, { method: "DELETE" })));
  if ((job.links || []).some((each) => each.rel === "retry")) act.append(button("Retry", job, () => ask(`ingestions/${job.ingestion_id}/retry`, { method: "POST" })));
  if (job.status === "completed" && job.dataset) act.append(element("a", "Open the dataset", { href: new URL(`datasets/${job.dataset_id}?f=html`, base) }));
  if (act.childNodes.length) item.append(act);
  const focused = old && old.contains(document.activeElement);
  if (old) old.replaceWith(item); else one("jobs").append(item);
  if (focused) item.querySelector("button, a")?.focus();
  if (open) follow(job);
}

function button(text, job, act) {
  const found = element("button", text, { type: "button", "aria-label": `${text} the job of ${job.dataset_id}` });
  found.addEventListener("click", async () => {
    found.disabled = true;
    try { await act(); say(`${text}: ${job.dataset_id}`); await list(); } catch (error) { say(error.message); found.disabled = false; }
  });
  return found;
}

async function follow(job) {
  if (following.has(job.ingestion_id)) return;
  const stop = new AbortController();
  following.set(job.ingestion_id, stop);
  try {
    const answer = await ask(`ingestions/${job.ingestion_id}/events`, { headers: { Accept: "text/event-stream" }, signal: stop.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      text += value;
      let end;
      while ((end = text.indexOf("\n\n")) >= 0) {
        const data = text.slice(0, end).split("\n").find((line) => line.startsWith("data: "));
        text = text.slice(end + 2);
        if (data) Object.assign(job, JSON.parse(data.slice(6)));
        shown(job);
      }
    }
    following.delete(job.ingestion_id);
    shown(await (await ask(`ingestions/${job.ingestion_id}`)).json());
  } catch (error) {
    following.delete(job.ingestion_id);
    if (error.name !== "AbortError") say(error.message);
  }
}

async function list() {
  try {
    const found = await (await ask("ingestions?limit=50")).json();
    one("how").hidden = true;
    one("work").hidden = false;
    for (const each of [one("secret").parentNode, one("forget").previousElementSibling]) each.hidden = Boolean(key);
    one("forget").hidden = !key;
    one("jobs").replaceChildren();
    for (const stop of following.values()) stop.abort();
    following.clear();
    found.items.forEach(shown);
    if (!found.items.length) one("jobs").append(element("li", "There are no jobs yet."));
    if (key) sessionStorage.setItem(kept, key);
    const datasets = await (await ask("datasets?limit=200&publication=any")).json();
    one("datasets").replaceChildren(...datasets.items.map((each) => element("option", "", { value: each.dataset_id })));
  } catch (error) {
    one("work").hidden = true;
    one("how").hidden = false;
    one("forget").hidden = true;
    for (const each of [one("secret").parentNode, one("forget").previousElementSibling]) each.hidden = false;
    sessionStorage.removeItem(kept);
    if (key || error.status !== 401) say(error.message);
    key = "";
  }
}

const filled = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => typeof value === "string" && value.trim()));

one("key").hidden = false;
one("key").addEventListener("submit", (event) => { event.preventDefault(); key = one("secret").value.trim(); one("secret").value = ""; say(""); list(); });
one("forget").addEventListener("click", () => { key = ""; sessionStorage.removeItem(kept); say("The key is forgotten."); list(); });
one("ingest").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { dataset_id, source, title, mode } = filled(event.target);
  const file = event.target.elements.file.files[0];
  try {
    const body = { dataset_id, ...(source ? { source } : {}), ...(mode ? { mode } : {}), ...(title ? { template: { title } } : {}) };
    if (file) {
      say(`Sending ${file.name} …`);
      const sent = await ask(`uploads?filename=${encodeURIComponent(file.name)}`, { method: "POST", body: file,
        headers: { "Content-Type": "application/octet-stream" } });
      body.source = `upload:${(await sent.json()).upload_id}`;
    }
    await send("ingestions", body);
    say(`The ingestion of ${dataset_id} has begun.`);
    event.target.reset();
    await list();
  } catch (error) { say(error.message); }
});
one("sync").addEventListener("submit", async (event) => {
  event.preventDefault();
  const { dataset_id, end } = filled(event.target);
  try {
    const found = await send(`sync/${encodeURIComponent(dataset_id)}`, end ? { end } : {});
    await list();
    say(found.status === "up_to_date" ? `${dataset_id} is up to date.` : found.message || `The sync of ${dataset_id} has begun.`);
  } catch (error) { say(error.message); }
});
one("plan").addEventListener("click", async () => {
  const { dataset_id, end } = filled(one("sync"));
  if (!one("sync").reportValidity()) return;
  try {
    const found = await (await ask(`sync/${encodeURIComponent(dataset_id)}/plan${end ? `?end=${encodeURIComponent(end)}` : ""}`)).json();
    const periods = found.delta_start ? ` From ${found.delta_start}${found.delta_end ? ` to ${found.delta_end}` : ""}.` : "";
    say(`${dataset_id}: ${found.message}${periods}`);
  } catch (error) { say(error.message); }
});
if (key) list();
