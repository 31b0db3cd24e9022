"use strict";
// Fills the page of a review. Text from the run only ever becomes text, never HTML.

const $ = (id) => document.getElementById(id);
const form = $("filters"), list = $("candidates"), large = $("large"), sure = $("sure");
const token = form.dataset.token;
let items = [], start = 0, matching = 0, droppable = 0, current = 0, asked = 0;

function make(tag, properties = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...inside.filter((part) => part !== null));
  return element;
}

function say(text, wrong = false) {
  const message = $("message");
  message.textContent = text;
  message.classList.toggle("wrong", wrong);
  message.hidden = !text;
}

async function request(path, body) {
  let response;
  try {
    response = await fetch(path, body === undefined ? {} : {
      method: "POST",
      headers: {"Content-Type": "application/json", "X-Review-Token": token},
      body: JSON.stringify(body),
    });
  } catch {
    throw new Error("The review has ended. Start it again in the terminal, then open its new address.");
  }
  const text = await response.text();
  let value = {};
  try { value = JSON.parse(text); } catch { value = {error: text}; }
  if (!response.ok) throw new Error(value.error);
  return value;
}

const attempt = (action) => action().catch((error) => say(error.message, true));

function query() {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value.trim()));
}

async function load(where = {}, focus = null) {
  const mine = ++asked;
  const values = query();
  const found = await request("candidates?" + new URLSearchParams({...values, ...where}));
  if (mine !== asked) return;  // a later question was asked meanwhile
  history.replaceState(null, "", "#" + new URLSearchParams(values));
  ({items, start, matching, droppable} = found);
  current = Math.min(current, Math.max(0, items.length - 1));
  if (focus === "first") current = 0;
  if (focus === "last") current = Math.max(0, items.length - 1);
  list.replaceChildren(...items.map(card));
  showCounts(found.counts);
  if (focus !== null) select(current);
  else mark(current);
}

const number = (value) => value.toLocaleString("en");

function showCounts(counts) {
  const by = (what, key) => make("span", {}, make("b", {textContent: number(counts[key])}), " " + what);
  $("counts").replaceChildren(
    by("images", "total"), by("kept now", "in_pool"),
    by("dropped by hand", "dropped"), by("kept by hand", "kept"));
  $("undo").disabled = !counts.undoable;
  $("found").textContent = matching === counts.total
    ? "All are shown" : `${number(matching)} of ${number(counts.total)} match`;
  $("drop-all").disabled = !droppable || matching === counts.total;
  $("drop-all").textContent = droppable && matching !== counts.total
    ? `Drop these ${number(droppable)}` : "Drop all";
  const end = start + items.length;
  $("where").textContent = matching
    ? `${number(start + 1)}–${number(end)} of ${number(matching)}` : "Nothing matches these filters.";
  $("previous").disabled = start === 0;
  $("next").disabled = end >= matching;
}

const score = (value) => value && Math.abs(value) < 0.001 ? value.toExponential(2) : value.toPrecision(3);

function picture(path, alt, caption, css, there) {
  const shown = there ? make("img", {src: path, alt, loading: "lazy", decoding: "async"})
    : make("span", {className: "no-image", textContent: "no image"});
  shown.addEventListener("error", () => shown.replaceWith(
    make("span", {className: "no-image", textContent: "damaged or missing"})));
  shown.addEventListener("load", () => shown.classList.toggle("pixelated", shown.naturalWidth <= 64));
  return make("figure", {className: css}, shown, make("figcaption", {textContent: caption}));
}

function verdict(item) {
  const words = {keep: "kept by hand", drop: "dropped by hand"}[item.decision] || item.verdict;
  return make("span", {className: "badge " + (item.in_pool ? "kept" : "rejected"), textContent: words});
}

function pair(item, kind) {
  const id = encodeURIComponent(item.id);
  return make("div", {className: "two"},
    picture("source/" + id, "source " + item.source, "source", "real", item.has_source),
    picture(kind + "/" + id, "new image of " + item.class, "new image",
      item.in_pool ? "kept" : "rejected", item.has_image));
}

function facts(item) {
  const parts = [`round ${item.round + 1}`];
  if (item.vog !== null) parts.push(`VoG ${score(item.vog)}`);
  if (item.source_score !== null) parts.push(`${form.dataset.score} ${score(item.source_score)}`);
  return make("p", {className: "facts", textContent: parts.join(" · ")});
}

function buttons(item) {
  const one = (decision, text, css, why) => {
    const button = make("button", {type: "button", textContent: text, className: css, title: why});
    button.setAttribute("aria-pressed", String(item.decision === decision));
    button.disabled = Boolean(why);
    button.addEventListener("click", () => attempt(() => decide(item, decision)));
    return button;
  };
  const none = item.has_image ? "" : "there is no image";
  return make("div", {className: "buttons"},
    one("keep", "Keep", "keep", none || item.why_not), one("drop", "Drop", "drop", none));
}

function card(item, position) {
  const same = make("button", {type: "button", className: "link", textContent: item.source,
    title: "show all images made from this source"});
  same.addEventListener("click", () => {
    form.elements.source.value = item.source;
    if (matchMedia("(max-width: 720px)").matches) $("filter-box").open = false;
attempt(() => load());
  });
  const css = "candidate" + (item.decision === "drop" ? " dropped" : "");
  const element = make("li", {className: css, tabIndex: -1},
    pair(item, "thumbnail"),
    make("p", {className: "what"}, make("b", {}, make("bdi", {textContent: item.class})), verdict(item)),
    make("p", {className: "prompt", textContent: item.prompt, title: item.prompt}),
    facts(item), make("p", {className: "facts"}, "from ", same), buttons(item));
  if (item.why_not) element.insertBefore(make("p", {className: "why",
    textContent: "Cannot be kept by hand: " + item.why_not + "."}), element.lastChild);
  element.dataset.id = item.id;
  element.addEventListener("focusin", () => mark(position));
  element.querySelector(".two").addEventListener("click", () => { mark(position); enlarge(); });
  return element;
}

function mark(position) {
  current = position;
  [...list.children].forEach((element, at) => {
    element.tabIndex = at === position ? 0 : -1;
    element.classList.toggle("current", at === position);
  });
}

function select(position) {
  if (!list.children[position]) return;
  mark(position);
  list.children[position].focus({preventScroll: true});
  list.children[position].scrollIntoView({block: "nearest"});
}

function enlarge() {
  const item = items[current];
  if (!item) return;
  const line = (term, text) => text ? make("div", {}, make("dt", {textContent: term}), make("dd", {textContent: text})) : null;
  const close = make("button", {type: "button", textContent: "Close", autofocus: true});
  close.addEventListener("click", () => large.close());
  const decide = buttons(item);
  decide.append(close);
  large.replaceChildren(
    make("div", {className: "top"}, make("p", {className: "what"},
      make("b", {}, make("bdi", {textContent: item.class})), verdict(item)), decide),
    pair(item, "image"),
    make("dl", {}, line("Caption of the source", item.source_caption), line("Prompt", item.prompt),
      line("Source", item.source), line("Image", item.id),
      line("Cannot be kept by hand", item.why_not)),
    facts(item));
  if (!large.open) large.showModal();
}

async function decide(item, decision) {
  if (decision === "keep" && item.why_not) throw new Error("It cannot be kept by hand: " + item.why_not + ".");
  const wanted = item.decision === decision ? "none" : decision;  // the same again takes it back
  const found = await request("decide", {id: item.id, decision: wanted});
  const position = items.findIndex((other) => other.id === item.id);
  if (position >= 0) {
    droppable += found.item.in_pool - items[position].in_pool;
    items[position] = found.item;
    const focused = list.contains(document.activeElement);
    list.children[position].replaceWith(card(found.item, position));
    if (position === current) focused ? select(position) : mark(position);
  }
  say("");
  showCounts(found.counts);
  if (large.open) enlarge();
}

async function undo() {
  const {undone} = await request("undo", {});
  say(undone.length === 1 ? "Taken back." : `Taken back for ${number(undone.length)} images.`);
  await load(items[0] ? {first: items[0].id} : {});
  const position = items.findIndex((item) => item.id === undone[0]);
  if (position >= 0) select(position);
  if (large.open) enlarge();
}

async function dropAll() {
  const expected = droppable;
  $("sure-words").textContent = `Drop ${number(expected)} images that match these filters and are kept now? Undo takes it back.`;
  sure.returnValue = "no";
  sure.showModal();
  await new Promise((done) => sure.addEventListener("close", done, {once: true}));
  if (sure.returnValue !== "yes") return;
  const {dropped} = await request("drop", {query: query(), expected});
  await load();
  say(`${number(dropped)} images dropped.`);
}

async function move(step) {
  const position = current + step;
  if (position >= 0 && position < items.length) return select(position);
  if (position < 0 && start > 0) return load({before: items[0].id}, "last");
  if (position >= items.length && start + items.length < matching) {
    return load({after: items[items.length - 1].id}, "first");
  }
}

function columns() {
  const top = list.firstElementChild ? list.firstElementChild.offsetTop : 0;
  return [...list.children].filter((element) => element.offsetTop === top).length || 1;
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || sure.open) return;
  if (event.target.closest("input, select")) return;
  const key = event.key.toLowerCase();
  const steps = {arrowleft: -1, arrowright: 1, arrowup: -columns(), arrowdown: columns()};
  const item = items[current];
  let action = null;
  if (key in steps) action = async () => { await move(steps[key]); if (large.open) enlarge(); };
  else if (key === "k" && item) action = () => decide(item, "keep");
  else if (key === "d" && item) action = () => decide(item, "drop");
  else if (key === "u") action = undo;
  else if (key === "enter" && !large.open && !event.target.closest("button")) action = async () => enlarge();
  if (!action) return;
  event.preventDefault();
  attempt(action);
});

let waiting;
form.addEventListener("input", () => {
  clearTimeout(waiting);
  waiting = setTimeout(() => attempt(async () => { say(""); current = 0; await load(); }), 200);
});
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(() => attempt(() => load())));
$("undo").addEventListener("click", () => attempt(undo));
$("drop-all").addEventListener("click", () => attempt(dropAll));
$("previous").addEventListener("click", () => attempt(() => load({before: items[0].id}, "first")));
$("next").addEventListener("click", () => attempt(() => load({after: items[items.length - 1].id}, "first")));
sure.addEventListener("click", (event) => { if (event.target.value) sure.close(event.target.value); });
large.addEventListener("close", () => select(current));

for (const [name, value] of new URLSearchParams(location.hash.slice(1))) {
  if (form.elements[name]) form.elements[name].value = value;
}
if (matchMedia("(max-width: 720px)").matches) $("filter-box").open = false;
attempt(() => load());
