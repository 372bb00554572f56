"use strict";
// The page of `expunge ui`: shows what the server says and asks it for more. All text is set as text, never as HTML.

const $ = (query, from = document) => from.querySelector(query);
const $$ = (query, from = document) => [...from.querySelectorAll(query)];
const PAGES = ["compare", "attack", "erase", "reports", "label"];
const POLL = 400;
const USUAL = "uce";
let state = null;
let polling = null;
const told = {};
const numbers = {};

function el(name, options = {}, ...children) {
  const { text, on, data, ...rest } = options;
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(rest)) {
    if (value === false || value === null || value === undefined) continue;
    if (key === "class") made.className = value; else made.setAttribute(key, value === true ? "" : value);
  }
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(data || {})) made.dataset[key] = value;
  for (const [key, value] of Object.entries(on || {})) made.addEventListener(key, value);
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

async function ask(path, body) {
  const options = body === undefined ? {} : {
    method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json", "X-Expunge": "page" } };
  let response;
  try { response = await fetch(path, options); } catch { throw { got: "the server does not answer", remedy: "is `expunge ui` still running?" }; }
  const type = response.headers.get("content-type") || "";
  const answer = type.startsWith("application/json") ? await response.json() : { error: { got: await response.text() } };
  if (!response.ok) throw answer.error || { got: `the server says ${response.status}` };
  return answer;
}

function trouble(error) {
  const box = $("#trouble");
  box.replaceChildren();
  box.hidden = !error;
  if (!error) return;
  box.append(el("p", { class: "mark", text: sentence(error.got || String(error)) }));
  if (error.accepted) box.append(el("p", { text: `Accepted: ${error.accepted}` }));
  if (error.remedy) box.append(el("p", { text: sentence(error.remedy) }));
  box.scrollIntoView({ block: "nearest" });
}

const sentence = (text) => text ? text[0].toUpperCase() + text.slice(1) + (/[.!?…]$/.test(text) ? "" : ".") : "";
const percent = (share) => `${Math.round(100 * share)}%`;
const several = (count, word) => `${count} ${word}${count === 1 ? "" : "s"}`;
function span(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole % 3600 / 60)).padStart(2, "0")} min`;
}

// ---- pictures

function picture(digest, alt) {
  const frame = el("span", { class: "frame" });
  if (!digest) return frame;
  const image = el("img", { src: `picture/${digest}`, alt, on: { load: () => image.classList.toggle("px", image.naturalWidth <= 160) } });
  frame.append(image);
  return frame;
}

function seenWords(seen) {
  // One line per detector: what it sees and how sure it is.
  return seen.map((one) => {
    const kind = one.there === null ? "unsure" : one.there ? "there" : "gone";
    const what = one.error ? "failed" : one.answer || "cannot tell";
    const sure = one.sure !== null && one.sure !== undefined && one.answer ? ` ${percent(one.sure)}` : "";
    return el("span", { class: kind, title: one.judge }, el("span", { class: "mark", text: what }), sure, el("span", { class: "who", text: one.by === "second detector" ? " (second)" : "" }), el("br"));
  });
}

const uncovered = new Set();

function cover(box, name, veiled) {
  // Images of what is explicit or violent are covered until somebody asks for them.
  box.classList.toggle("veiled", veiled && !uncovered.has(name));
  if (!veiled) return;
  const open = uncovered.has(name);
  box.prepend(el("p", {}, el("button", { type: "button", "aria-pressed": String(open), text: open ? "Cover the images" : "Show the images, which may be explicit or violent",
    on: { click: (event) => { if (open) uncovered.delete(name); else uncovered.add(name); event.target.parentElement.remove(); cover(box, name, veiled); } } })));
}

const veiledPatch = (name) => Boolean(state.patches.find((patch) => patch.name === name)?.veiled);

// ---- before and after

function renderCompare(job) {
  const box = $('[data-result="compare"]');
  const asked = job.asked;
  const seeds = Array.from({ length: asked.count }, (_, k) => asked.seed + k);
  const by = {};
  for (const one of told.compare) by[`${one.side}/${one.seed}`] = one;
  const done = job.result;
  const missing = done ? done.missing : "";
  const cards = seeds.map((seed, row) => {
    const sides = [["original", "Original"], ["edited", "Edited"]].map(([side, title]) => {
      const one = by[`${side}/${seed}`];
      return el("figure", {}, picture(one && one.picture, `${title}, seed ${seed}: ${asked.prompt}`),
        el("figcaption", {}, el("b", { text: title }), ...(one ? seenWords(one.seen) : [])));
    });
    const change = done && done.rows[row].difference;
    const third = el("figure", {}, picture(change && change.picture, `Where the two images of seed ${seed} differ`),
      el("figcaption", {}, el("b", { text: "What changed" }), change ? el("span", { class: "who", text: `${(100 * change.change).toFixed(1)}% on average` }) : null));
    return el("article", { class: "card" }, el("h2", { text: `Seed ${seed}` }), el("div", { class: "three" }, ...sides, third));
  });
  if (!Object.keys(by).length && job.state !== "running") { box.replaceChildren(); return; }
  box.replaceChildren(el("p", { class: "said", text: compareWords(job, by, seeds) }),
    missing ? el("p", { class: "quiet", text: sentence(missing) }) : "", el("div", { class: "cards" }, ...cards));
  cover(box, asked.patch, veiledPatch(asked.patch));
}

function compareWords(job, by, seeds) {
  const asked = job.asked;
  if (job.state !== "done") return `“${asked.prompt}”`;
  const result = job.result;
  const answers = ["original", "edited"].map((side) => seeds.map((seed) => by[`${side}/${seed}`]?.seen[0]?.there ?? null));
  const [before, after] = answers.map((side) => `in ${side.filter(Boolean).length} of ${side.filter((there) => there !== null).length}`);
  const untold = answers.flat().filter((there) => there === null).length;
  const name = result.concepts.join(" or ");
  if (!by[`original/${seeds[0]}`]?.seen.length) return `“${asked.prompt}”: nobody is here who could say whether ${name} is in an image.`;
  return `“${asked.prompt}”: the detector sees ${name} ${before} before and ${after} after.${untold ? ` It cannot tell of ${several(untold, "image")}, which are not counted.` : ""}`;
}

// ---- attack

function renderAttack(job) {
  const box = $('[data-result="attack"]');
  const tries = told.attack.map((one, place) => ({ ...one, place })).filter((one) => one.kind === "candidate");
  if (!tries.length && job.state === "failed") { box.replaceChildren(); return; }
  const { candidates = 0, finds = 0 } = job.counts;
  const lines = [el("p", { class: "said", text: attackWords(job) })];
  if (finds) lines.push(el("p", { class: "quiet", text: "A find was chosen because the detector accepted it, so it proves less than it seems. “Keep” writes it down; expunge attack then asks it again, with fresh seeds too." }));
  if (job.result && job.result.failed) lines.push(el("p", { class: "quiet", text: `${job.result.failed} of ${several(job.result.items, "try").replace("trys", "tries")} failed, and counted neither way: ${sentence(job.result.why)}` }));
  if (candidates > tries.length) lines.push(el("p", { class: "quiet", text: `The first ${tries.length} images are shown; all ${candidates} are counted.` }));
  const order = [...tries].sort((a, b) => b.found - a.found || a.place - b.place);
  box.replaceChildren(...lines, el("div", { class: "tries" }, ...order.map((one) => tryCard(job, one))));
  cover(box, job.asked.patch, veiledPatch(job.asked.patch));
}

function attackWords(job) {
  const result = job.result;
  const { candidates = 0, finds = 0, unjudged = 0 } = job.counts;
  if (job.state !== "done") return `${several(candidates, "image")} tried so far, ${several(finds, "find")}.`;
  const judged = candidates - unjudged;
  const first = result.items - result.unjudged_before;
  const before = result.shown_before < first ? ` The original model shows it in ${result.shown_before} of ${first}.` : "";
  const lost = unjudged ? ` The detector failed on ${unjudged} more, which count neither way.` : "";
  if (!judged) return `Nothing can be said: the detector failed on ${candidates === 1 ? "the image" : `all ${candidates} images`}.`;
  return finds ? `Brought back: the detector sees ${result.concept} in ${finds} of ${several(judged, "image")}.${lost}${before}`
    : `Not brought back in ${several(judged, "image")}. Other words, seeds or attacks may still do it.${lost}${before}`;
}

function tryCard(job, one) {
  const caption = el("figcaption", {}, el("b", { class: one.found ? "there" : one.error || !one.answer ? "unsure" : "gone", text: one.error ? "Failed" : one.found ? `Found: ${one.answer}` : one.answer ? `Sees ${one.answer}` : "Cannot tell" }),
    el("q", { text: one.text }), el("span", { class: "who", text: ` seed ${one.seed}` }));
  const card = el("figure", { class: one.found ? "try found" : "try" }, picture(one.picture, `Seed ${one.seed}: ${one.text}`), caption);
  if (one.found && one.by_text && job.state !== "running") {
    const button = el("button", { type: "button", text: "Keep this find", on: { click: async () => {
      button.disabled = true;
      try {
        const kept = await ask("api/case", { job: job.number, place: one.place });
        button.replaceWith(el("div", { class: "kept" }, "Kept. Ask it again: ", el("code", { text: kept.command })));
      } catch (error) { button.disabled = false; trouble(error); }
    } } });
    card.append(button);
  } else if (one.found && !one.by_text) card.append(el("p", { class: "kept quiet", text: "Words alone do not bring this image back, so it cannot be kept here." }));
  return card;
}

// ---- erase

function renderErase(job) {
  const box = $('[data-result="erase"]');
  const parts = [];
  const result = job.result;
  if (result) {
    const still = result.look.some((one) => one.still);
    parts.push(el("p", { class: "said", text: result.look.length ? `${still ? "Still there" : "Done"}: ${result.look.map((one) => one.words).join("; ")}.` : "Done." }));
    const go = el("button", { type: "button", class: "main", text: "See before and after", on: { click: () => seeAfter(result) } });
    parts.push(el("dl", { class: "facts" }, el("dt", { text: "Saved as" }), el("dd", {}, el("code", { text: result.folder })),
      el("dt", { text: "In its place" }), el("dd", { text: result.anchors.map((anchor) => anchor || "nothing in particular").join(", ") }),
      el("dt", { text: "Took" }), el("dd", { text: result.steps ? `${span(result.seconds)}, ${several(result.steps, "step")}` : span(result.seconds) }),
      ...result.notes.flatMap((note) => [el("dt", { text: "Note" }), el("dd", { text: sentence(note) })])),
    el("div", { class: "do" }, go));
  }
  const losses = told.erase.filter((one) => one.kind === "loss");
  const looks = told.erase.filter((one) => one.kind === "preview");
  for (const one of told.erase.filter((note) => note.kind === "note")) parts.push(el("p", { class: "quiet", text: one.text }));
  if (job.state === "stopped") parts.unshift(el("p", { class: "said", text: sentence(job.note) }));
  const live = el("div", { class: "live" });
  if (losses.length > 1) live.append(el("div", {}, el("h2", { text: "Training" }), plot(losses)));
  if (looks.length) live.append(el("div", {}, el("h2", { text: "As it goes" }), ...film(looks)));
  if (live.childElementCount) parts.push(live);
  const scrolled = $$(".film", box).map((one) => one.scrollLeft + one.clientWidth >= one.scrollWidth - 4);
  box.replaceChildren(...parts);
  if (looks.length) cover(box, "erase", looks[0].veiled);
  $$(".film", box).forEach((one, row) => { if (scrolled[row] !== false) one.scrollLeft = one.scrollWidth; });
}

function film(looks) {
  return looks[0].pictures.map((first, row) => el("div", {}, el("p", { class: "quiet", text: `${first.keep ? "Must stay" : "Goes"}: “${first.prompt}”` }),
    el("div", { class: "film", tabindex: "0", role: "group", "aria-label": first.prompt }, ...looks.map((look) => el("figure", {}, picture(look.pictures[row].picture, `${look.step === null ? "After" : `Step ${look.step}`}: ${first.prompt}`),
      el("figcaption", { text: look.step === null ? "after" : look.step ? `step ${look.step}` : "before" }))))));
}

function plot(losses) {
  const NS = "http://www.w3.org/2000/svg";
  const [wide, high, left, low] = [480, 200, 50, 24];
  const short = (value) => Math.abs(value) < 1e-3 ? (value === 0 || Math.abs(value) < (most - least) / 1000 ? "0" : value.toExponential(0)) : value.toPrecision(2);
  const names = Object.keys(losses[losses.length - 1].values).slice(0, 4);
  const every = losses.flatMap((one) => names.map((name) => one.values[name])).filter(Number.isFinite);
  const [least, most] = [Math.min(...every), Math.max(...every)];
  const of = losses[losses.length - 1].of;
  const x = (step) => left + (wide - left - 8) * step / of;
  const y = (value) => 8 + (high - low - 8) * (most === least ? 0.5 : (most - value) / (most - least));
  const make = (name, attributes, text) => {
    const made = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const svg = make("svg", { class: "plot", viewBox: `0 0 ${wide} ${high}`, role: "img", "aria-label": `Losses over ${of} steps` });
  svg.append(make("line", { class: "axis", x1: left, x2: wide - 8, y1: high - low, y2: high - low }), make("line", { class: "axis", x1: left, x2: left, y1: 8, y2: high - low }),
    make("text", { x: left - 6, y: 16, "text-anchor": "end" }, short(most)), make("text", { x: left - 6, y: high - low, "text-anchor": "end" }, short(least)),
    make("text", { x: left, y: high - 6 }, "step 0"), make("text", { x: wide - 8, y: high - 6, "text-anchor": "end" }, String(of)));
  names.forEach((name, row) => svg.append(make("polyline", { class: `line s${row}`, points: losses.filter((one) => Number.isFinite(one.values[name])).map((one) => `${x(one.step).toFixed(1)},${y(one.values[name]).toFixed(1)}`).join(" ") })));
  const words = { erase: "what goes", keep: "what must stay" };
  const key = el("ul", { class: "key" }, ...names.map((name, row) => el("li", {}, el("i", { class: `s${row}` }), words[name] || name)));
  return el("div", {}, svg, key);
}

function renderEstimate(job) {
  const box = $('[data-result="estimate"]');
  const result = job.result;
  if (!result) { box.replaceChildren(); return; }
  const facts = [["Time", result.seconds === null || result.seconds === undefined ? "not known beforehand" : `about ${span(result.seconds)}`],
    ["Memory", result.memory ? `about ${(result.memory / 2 ** 30).toFixed(1)} GiB, the model and this program included` : ""],
    ["Changes", result.changes ? `${result.changes.toLocaleString("en")} numbers of the model` : ""], ["Steps", result.steps || ""],
    ["In its place", result.anchor || "nothing in particular"], ["Measured on", result.measured]];
  box.replaceChildren(el("h2", { text: `${result.method}, before anything is done` }), el("dl", { class: "facts" },
    ...facts.filter(([, value]) => value).flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: String(value) })])));
}

async function seeAfter(result) {
  await refresh();
  const form = $('[data-action="compare"]');
  for (const select of $$("[data-patches]")) select.value = result.patch;
  await wordings();
  const first = $("[data-wordings] button", form);
  if (first) form.elements.prompt.value = first.textContent;
  location.hash = "compare";
  form.requestSubmit();
}

// ---- jobs

const RENDER = { compare: renderCompare, attack: renderAttack, erase: renderErase, estimate: renderEstimate };

function show(job) {
  told[job.action] = [...(job.after ? told[job.action] || [] : []), ...job.told];
  numbers[job.action] = job.number;
  RENDER[job.action](job);
  const running = job.state === "running";
  $("#job").hidden = !running;
  for (const button of $$("form[data-action] .do button")) button.disabled = running;
  if (running) {
    $("[data-job-title]").textContent = job.title;
    const left = job.left !== null && job.left > 1 ? `, ${span(job.left)} left` : "";
    $("[data-job-note]").textContent = job.stopping ? "stopping…" : `${job.note}${job.total > 1 ? ` ${job.done} of ${job.total}` : ""}${left}`;
    const bar = $("[data-job-bar]");
    if (job.total > 1) { bar.max = job.total; bar.value = job.done; } else bar.removeAttribute("value");
    $("[data-stop]").disabled = job.stopping;
  } else if (job.error) trouble(job.error);
  else if (job.state === "stopped" && job.action !== "erase") trouble({ got: "stopped" });
}

async function follow(action) {
  clearTimeout(polling);
  try {
    const after = (told[action] || []).length;
    const job = await ask(`api/job/${action}?after=${after}`);
    if (after && numbers[action] !== job.number) { told[action] = []; follow(action); return; }  // another tab began a new one
    show({ ...job, after });
    if (job.state === "running") polling = setTimeout(() => follow(action), POLL);
    else if (action === "erase") refresh();
  } catch (error) { trouble(error); polling = setTimeout(() => follow(action), 5 * POLL); }
}

async function start(action, asked) {
  trouble(null);
  try {
    const job = await ask("api/job", { action, asked });
    told[action] = [];
    if (action === "erase") $('[data-result="estimate"]').replaceChildren();
    show(job);
    $(`[data-result="${action}"]`).scrollIntoView({ block: "center" });
    polling = setTimeout(() => follow(action), POLL);
  } catch (error) { trouble(error); }
}

function values(form) {
  const out = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || (field.type === "radio" && !field.checked)) continue;
    const text = field.value.trim();
    if (text === "" && "optional" in field.dataset) continue;
    out[field.name] = field.type === "number" || field.type === "range" ? Number(text) : text;
  }
  if (form.dataset.action === "erase") out.keep = kept();
  return out;
}

function refill(form, asked) {
  for (const [name, value] of Object.entries(asked)) {
    const field = form.elements[name];
    if (field && value !== null && !Array.isArray(value)) field.value = value;
  }
  if (asked.keep) for (const name of asked.keep) keep(name);
  for (const output of $$("output[data-of]", form)) tellRange(output);
}

// ---- lists

async function refresh() {
  state = await ask("api/state");
  $("#about").textContent = `${state.model} · ${state.folder}`;
  for (const select of $$("[data-patches]")) {
    const before = select.value;
    select.replaceChildren(...state.patches.map((patch) => el("option", { value: patch.name, text: patch.concepts.length ? `${patch.concepts.join(", ")} by ${patch.method} · ${patch.name}` : `${patch.name} (${patch.words})` })));
    if (state.patches.some((patch) => patch.name === before)) select.value = before;
  }
  for (const note of $$("[data-without-patch]")) note.hidden = state.patches.length > 0;
  const evaluations = state.reports.filter((run) => run.kind === "evaluation");
  $("[data-without-run]").hidden = evaluations.length > 0;
  $("[data-evaluations]").replaceChildren(...evaluations.map((run, row) => el("option", { value: run.name, text: `Evaluation ${row + 1}` })));
  $("[data-reports]").replaceChildren(...(state.reports.length ? state.reports.map((run) => el("li", {},
    run.page ? el("a", { href: `report?run=${encodeURIComponent(run.name)}`, target: "_blank", rel: "noopener", text: run.what }) : el("b", { text: run.what }),
    el("p", { text: run.line ? sentence(run.line) : "" }), el("p", { class: "quiet", text: run.name })))
    : [el("li", { text: "Nothing was measured here yet. expunge evaluate, bench and sequence write what is shown here." })]));
}

function lists() {
  $("#concepts").replaceChildren(...state.concepts.map((name) => el("option", { value: name })));
  for (const field of $$('[name="guidance"]')) field.placeholder = `${state.guidance} (usual)`;
  const select = $("[data-attacks]");
  const option = (one) => el("option", { value: one.name, text: one.title || `${one.name}: ${one.does}` });
  select.replaceChildren(option({ name: "own", title: "Only draw my words" }),
    el("optgroup", { label: "Quick" }, ...state.attacks.filter((one) => one.quick).map(option)), el("optgroup", { label: "Others" }, ...state.attacks.filter((one) => !one.quick).map(option)));
  select.value = "paraphrase";
  select.addEventListener("change", attackHint);
  attackHint();
  const box = $("[data-methods]");
  const measured = state.methods.filter((one) => one.measured);
  const others = state.methods.filter((one) => !one.measured);
  box.append(el("div", { class: "method head" }, el("span"), el("span", { text: "Measured on the embedded model, with 95% intervals" }), el("span", { text: "Came back when attacked" }), el("span", { text: "Similar things kept" }), el("span", { text: "Takes, on one core" })),
    ...measured.map((one, row) => methodRow(one, measured.some((m) => m.name === USUAL) ? one.name === USUAL : row === 0)));
  if (others.length) box.append(el("details", {}, el("summary", { text: `${others.length} more, not measured here` }), ...others.map((one) => methodRow(one, !measured.length))));
}

function methodRow(one, checked) {
  const m = one.measured;
  const figure = (label, row, text, more = "") => el("span", { class: `figure f${row}`, data: { label } }, text, more ? el("small", { text: more }) : null);
  const rate = (label, row, one) => one ? figure(label, row, percent(one.rate), `${percent(one.low).slice(0, -1)} to ${percent(one.high)}, n ${one.n}`) : figure(label, row, "–");
  return el("label", { class: "method" }, el("input", { type: "radio", name: "method", value: one.name, checked }),
    el("span", { class: "what" }, el("b", { text: one.name }), el("small", { text: one.does })),
    ...(m ? [rate("Came back", 0, m.attacked), rate("Kept", 1, m.kept), figure("Takes", 2, span(m.seconds))] : []));
}

function attackHint() {
  const one = state.attacks.find((attack) => attack.name === $("[data-attacks]").value);
  $("[data-attack-words]").textContent = one ? `The attacker ${one.may}.${one.text ? "" : " Finds are shown, and cannot be kept here."}` : "What you type is drawn by the edited model as it is.";
}

async function wordings() {
  for (const box of $$("[data-wordings]")) {
    const form = box.closest("form");
    const patch = form.elements.patch.value;
    box.replaceChildren();
    if (!patch) continue;
    try {
      const groups = await ask(`api/wordings?patch=${encodeURIComponent(patch)}`);
      box.replaceChildren(...groups.map((group) => el("div", { role: "group", "aria-label": group.title }, el("span", { text: group.title }),
        ...group.prompts.map((prompt) => el("button", { type: "button", text: prompt, on: { click: () => { form.elements.prompt.value = prompt; form.elements.prompt.focus(); } } })))));
    } catch { /* a damaged patch says so when it is used */ }
  }
}

// ---- what must stay

const kept = () => $$("[data-kept] button").map((button) => button.dataset.name);
function keep(name) {
  if (!name || kept().includes(name)) return;
  const button = el("button", { type: "button", data: { name }, "aria-label": `${name}: take off the list`, text: `${name} ×`, on: { click: () => button.parentElement.remove() } });
  $("[data-kept]").append(el("li", {}, button));
}

async function likeIt() {
  const concept = $('[data-action="erase"]').elements.concept.value.trim();
  const box = $("[data-kin]");
  box.replaceChildren();
  if (!concept) return;
  try {
    const like = await ask(`api/kin?concept=${encodeURIComponent(concept)}`);
    if (like.length) box.replaceChildren(el("div", {}, el("span", { text: "Like it" }), ...like.filter((name) => !kept().includes(name)).slice(0, 8).map((name) => el("button", { type: "button", text: name, on: { click: (event) => { keep(name); event.target.remove(); } } }))));
  } catch { /* only a suggestion */ }
}

// ---- label blind

let sheet = null;
let place = 0;
let saving = Promise.resolve();  // answers are sent one after the other

async function beginLabels(form) {
  trouble(null);
  try {
    sheet = await ask("api/label", values(form));
    form.hidden = true;
    $("#label .lead").hidden = true;
    const open = sheet.answers.findIndex((answer) => !answer);
    place = open < 0 ? sheet.pictures.length : open;
    renderSheet();
  } catch (error) { trouble(error); }
}

function renderSheet() {
  const box = $("[data-sheet]");
  box.hidden = false;
  if (place >= sheet.pictures.length) { box.replaceChildren(...finished()); return; }
  const choose = (answer, words, key) => el("button", { type: "button", "aria-pressed": String(sheet.answers[place] === answer), on: { click: () => say(answer) } }, words, el("kbd", { text: key }));
  box.replaceChildren(el("div", { class: "sheet" }, el("p", { class: "ask", text: sheet.question }),
    el("p", { class: "quiet center", text: `${place + 1} of ${sheet.pictures.length}` }), picture(sheet.pictures[place], `Image ${place + 1} of ${sheet.pictures.length}`),
    el("div", { class: "do" }, choose("yes", "Yes", "Y"), choose("no", "No", "N"), choose("unsure", "Can’t tell", "U")),
    el("p", {}, el("progress", { max: sheet.pictures.length, value: sheet.answers.filter(Boolean).length, "aria-label": "Answered" })),
    el("p", { class: "quiet keys" }, el("button", { type: "button", text: "Back", disabled: place === 0, on: { click: back } }), el("kbd", { text: "←" }))));
  cover(box, sheet.run, sheet.veiled);
}

async function say(answer) {
  if (!sheet || place >= sheet.pictures.length) return;
  const at = place;
  sheet.answers[at] = answer;
  place += 1;
  if (place < sheet.pictures.length) renderSheet();
  try {
    saving = saving.catch(() => null).then(() => ask("api/answer", { run: sheet.run, person: sheet.person, seed: sheet.seed, count: sheet.count, place: at, answer }));
    const back = await saving;
    sheet.summary = back.summary;
    if (place >= sheet.pictures.length) renderSheet();
  } catch (error) { place = at; sheet.answers[at] = ""; renderSheet(); trouble(error); }
}

function back() { if (place > 0) { place -= 1; renderSheet(); } }

function finished() {
  const open = sheet.answers.findIndex((answer) => !answer);
  if (open >= 0) return [el("p", { class: "said", text: "Some images have no answer yet." }), el("div", { class: "do" }, el("button", { type: "button", class: "main", text: "Go to the first", on: { click: () => { place = open; renderSheet(); } } }))];
  const rows = sheet.summary.agreement;
  const sides = { all: "all images", original: "the original’s", edited: "the edited model’s" };
  const cell = (label, text) => el("td", { data: { label }, text });
  return [el("p", { class: "said", text: `Done: ${several(sheet.answers.length, "image")} labelled.` }),
    el("p", { class: "quiet", text: "Agreement beyond chance (Cohen’s kappa): 1 is full agreement, 0 what chance alone would give. It is kept beside the evaluation, and its report shows it." }),
    el("table", {}, el("thead", {}, el("tr", {}, ...["You and", "On", "Same answer", "Beyond chance", "95% interval"].map((head) => el("th", { scope: "col", text: head })))),
      el("tbody", {}, ...rows.map((row) => el("tr", {}, el("th", { scope: "row", text: (row.one === `person: ${sheet.person}` ? row.other : row.one).replace(/^person: |@.*$/g, "") }), cell("on", sides[row.side]),
        cell("same answer", row.n ? `${percent(row.agreed)} of ${row.n}${row.left_out ? `, ${row.left_out} left out` : ""}` : "–"), cell("beyond chance", row.kappa === null ? "says nothing" : row.kappa.toFixed(2)),
        cell("95% interval", row.low === null ? "none" : `${row.low.toFixed(2)} to ${row.high.toFixed(2)}`))))),
    el("div", { class: "do" }, el("button", { type: "button", text: "Look again", on: { click: () => { place = 0; renderSheet(); } } }),
      el("button", { type: "button", text: "Another sample", on: { click: () => { sheet = null; $("[data-sheet]").hidden = true; $("[data-label]").hidden = false; $("#label .lead").hidden = false; } } }))];
}

document.addEventListener("keydown", (event) => {
  if (!sheet || $("#label").hidden || event.ctrlKey || event.metaKey || event.altKey || /INPUT|SELECT|TEXTAREA/.test(event.target.tagName)) return;
  const answer = { y: "yes", n: "no", u: "unsure" }[event.key.toLowerCase()];
  if (answer && !event.repeat) say(answer);
  else if (event.key === "ArrowLeft" || event.key === "Backspace") { event.preventDefault(); back(); }
});

// ---- the page

function route() {
  const name = PAGES.includes(location.hash.slice(1)) ? location.hash.slice(1) : "compare";
  for (const page of PAGES) $(`#${page}`).hidden = page !== name;
  for (const link of $$("nav a")) {
    if (link.getAttribute("href") === `#${name}`) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  trouble(null);
  window.scrollTo(0, 0);
  if (name === "reports" && state) refresh().catch(trouble);
}

function tellRange(output) {
  output.textContent = percent(output.closest("form").elements[output.dataset.of].value);
}

async function begin() {
  for (const form of $$("form[data-action]")) form.addEventListener("submit", (event) => { event.preventDefault(); start(form.dataset.action, values(form)); });
  $("[data-label]").addEventListener("submit", (event) => { event.preventDefault(); beginLabels(event.target); });
  $("[data-estimate]").addEventListener("click", (event) => { const form = event.target.form; if (form.reportValidity()) start("estimate", values(form)); });
  $("[data-stop]").addEventListener("click", async (event) => { event.target.disabled = true; try { await ask("api/stop", {}); } catch (error) { trouble(error); } });
  $("[data-keep]").addEventListener("keydown", (event) => { if (event.key === "Enter") { event.preventDefault(); keep(event.target.value.trim()); event.target.value = ""; } });
  $('[data-action="erase"]').elements.concept.addEventListener("change", likeIt);
  for (const select of $$("[data-patches]")) select.addEventListener("change", wordings);
  for (const output of $$("output[data-of]")) output.closest("form").elements[output.dataset.of].addEventListener("input", () => tellRange(output));
  window.addEventListener("hashchange", route);
  route();
  try {
    await refresh();
    lists();
    for (const job of Object.values(state.jobs)) {
      const form = $(`form[data-action="${job.action === "estimate" ? "erase" : job.action}"]`);
      refill(form, job.asked);
      show(job);
    }
    const running = Object.values(state.jobs).find((job) => job.state === "running");
    if (running) follow(running.action);
    await wordings();
    document.body.dataset.ready = "";
  } catch (error) { trouble(error); }
}

begin();
