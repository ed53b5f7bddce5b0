// The list of runs: search, filters, pages; worst first.

import { get } from "./api.js";
import { el, fill, trouble } from "./dom.js";
import { metricName, runLink, speed, status, when, whole, zone } from "./format.js";
import { calm, listen } from "./live.js";
import { spark } from "./spark.js";

const STATUSES = ["running", "failed", "stalled", "lost", "halted", "preempted", "finished"];
const SORTS = [["attention", "What needs attention"], ["heard", "Newest heard of"], ["name", "Name"]];
const REFRESH_MS = 5000; // Steps and speeds are no events: they are asked for.
const BURST_MS = 700;

export async function show(place) {
  const asked = fromAddress();
  const wall = asked.wall;
  document.body.classList.toggle("wall", wall);
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Status" });
  const total = el("span", { class: "quiet", role: "status" });
  const list = el("div", {});
  const pages = el("nav", { class: "pages", "aria-label": "Pages" });
  const project = el("select", { name: "project", onchange: () => change({ project: project.value }) });
  fill(
    place,
    el("div", { class: "head" }, el("h1", {}, "Runs"), total, el("span", { class: "grow" }), chips),
    controls(asked, project, change),
    list,
    pages,
  );
  let number = 0;

  function change(fields) {
    Object.assign(asked, { page: 1 }, fields);
    toAddress(asked);
    return refresh();
  }

  async function refresh() {
    const mine = ++number;
    try {
      const found = await get("/page/runs", query(asked));
      if (mine !== number) return; // A later question was answered in the meantime.
      draw(found);
    } catch (error) {
      if (mine === number) fill(list, trouble(error, refresh));
    }
  }

  function draw(found) {
    const open = found.open_incidents;
    document.title = `${open ? `(${whole(open)}) ` : ""}Runs - watchstep`; // Seen in a tab among others.
    total.textContent = `${whole(found.total)} shown, ${open ? `${whole(open)} with an open incident` : "no open incident"}`;
    fill(chips, chip("all", null, sum(found.counts)), STATUSES.map((word) => chip(word, word, found.counts[word] || 0)));
    options(project, found.projects, asked.project);
    if (found.items.length === 0) fill(list, nothing(asked));
    else table(list, found.items);
    fill(pages, pager(found, (page) => change({ page })));
  }

  function chip(word, value, count) {
    const pressed = (asked.status || null) === value;
    return el("button", { type: "button", "aria-pressed": String(pressed), onclick: () => change({ status: value }) }, word, el("b", {}, whole(count)));
  }

  await refresh();
  listen(calm(() => document.hidden || refresh(), BURST_MS));
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
}

function controls(asked, project, change) {
  const search = el("input", { type: "search", name: "q", value: asked.q, placeholder: "Name, project, trainer or tag", oninput: calm(() => change({ q: search.value }), 200) });
  const tag = el("input", { name: "tag", value: asked.tag.join(" "), placeholder: "env=Walker seed", onchange: () => change({ tag: tag.value.split(/\s+/).filter(Boolean) }) });
  const sort = el("select", { name: "sort", onchange: () => change({ sort: sort.value }) }, SORTS.map(([value, label]) => el("option", { value }, label)));
  sort.value = asked.sort;
  return el(
    "form",
    { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
    el("label", { class: "wide" }, "Search", search),
    el("label", {}, "Project", project),
    el("label", {}, "Tags", tag),
    el("label", {}, "Order", sort),
  );
}

function options(select, projects, chosen) {
  const known = [...select.options].slice(1).map((option) => option.value).join("\n");
  if (select.options.length === 0 || known !== projects.join("\n")) {
    fill(select, el("option", { value: "" }, "All"), projects.map((name) => el("option", { value: name }, name)));
  }
  select.value = chosen || "";
}

function table(place, items) {
  const focused = document.activeElement?.closest?.("tr")?.dataset.run;
  let body = place.querySelector("tbody");
  if (!body) {
    body = el("tbody");
    const names = ["Run", "Status", "Worst zone", "Incident", "Recently", "Step", "Speed", "Heard"];
    const head = names.map((name) => el("th", { scope: "col", class: ["Step", "Speed", "Heard"].includes(name) && "num" }, name));
    fill(place, el("div", { class: "panel table scroll" }, el("table", { class: "stack" }, el("caption", { class: "visually-hidden" }, "Runs"), el("thead", {}, el("tr", {}, head)), body)));
  }
  const before = new Map([...body.rows].map((row) => [row.dataset.run, row]));
  fill(body, items.map((item) => row(item, before.get(item.run))));
  if (focused) [...body.rows].find((one) => one.dataset.run === focused)?.querySelector("a")?.focus();
  glance(body, items.map((item) => item.run));
}

function row(item, before) {
  const tags = Object.entries(item.tags).slice(0, 4).map(([name, value]) => el("span", { class: "tag" }, `${name}=${value}`));
  const kept = (name) => [...(before?.querySelector(`.${name}`)?.childNodes || [])];
  const urgency = !item.incident ? "" : item.incident.severity === "critical" ? "urgent" : "caution";
  return el(
    "tr",
    { class: urgency, "data-run": item.run },
    el("td", {}, runLink(item.run), el("div", { class: "under" }, [item.project, item.trainer].filter(Boolean).join(" · "), tags)),
    el("td", {}, status(item.status), " ", status(item.health)),
    el("td", { class: "worst" }, kept("worst")),
    el("td", { class: "full" }, item.incident ? incident(item.incident) : item.error ? el("span", { class: "clamp" }, item.error) : null),
    el("td", { class: "shape full" }, kept("shape")),
    el("td", { class: "num", "data-name": "step" }, whole(item.step)),
    el("td", { class: "num speed", "data-name": "speed" }, kept("speed")),
    el("td", { class: "heard num", "data-name": "heard" }, when(item.heard_at)),
  );
}

function incident(one) {
  return [el("strong", {}, one.stage[0].toUpperCase() + one.stage.slice(1)), one.diagnosis && el("span", { class: "clamp" }, one.diagnosis)];
}

/** Fill in what takes reading a run's updates, once the rows are there. */
async function glance(body, runs) {
  let found;
  try {
    found = await get("/page/glances", { run: runs.slice(0, 100) });
  } catch {
    return; // The rows say what matters; the next refresh asks again.
  }
  const rows = new Map([...body.rows].map((one) => [one.dataset.run, one]));
  for (const seen of found.items) {
    const line = rows.get(seen.run);
    if (!line) continue;
    fill(line.querySelector(".worst"), seen.worst && [zone(seen.worst.zone), seen.worst.zone !== "ok" && el("div", { class: "under" }, metricName(seen.worst.metric))]);
    fill(line.querySelector(".shape"), seen.spark.length > 0 && spark(seen.metric, seen.spark));
    fill(line.querySelector(".speed"), speed(seen.steps_per_s));
  }
}

function pager(found, go) {
  if (found.pages < 2) return null;
  const button = (label, page, able) => el("button", { type: "button", disabled: !able, onclick: () => go(page) }, label);
  return [
    button("Previous", found.page - 1, found.page > 1),
    el("span", { class: "quiet" }, `Page ${whole(found.page)} of ${whole(found.pages)}`),
    button("Next", found.page + 1, found.page < found.pages),
  ];
}

function nothing(asked) {
  const filtered = asked.q || asked.status || asked.project || asked.tag.length;
  if (filtered) return el("div", { class: "panel empty" }, el("h2", {}, "No run fits"), el("p", {}, "Take away a filter, or search for another word."));
  return el(
    "div",
    { class: "panel empty" },
    el("h2", {}, "No run yet"),
    el("p", {}, "A run appears here with its first update. In a trainer:"),
    el("code", { class: "expr" }, `watch = watchstep.init(run="my-run", url="${location.origin}")`),
  );
}

function fromAddress() {
  const given = new URLSearchParams(location.search);
  return {
    q: given.get("q") || "",
    status: given.get("status"),
    project: given.get("project"),
    tag: given.getAll("tag"),
    sort: given.get("sort") || "attention",
    page: Number(given.get("page")) || 1,
    wall: given.has("wall"),
  };
}

function query(asked) {
  return { ...asked, wall: undefined, size: asked.wall ? 25 : 50 };
}

function toAddress(asked) {
  const kept = new URLSearchParams();
  for (const [name, value] of Object.entries(asked)) {
    const usual = name === "page" ? value === 1 : name === "sort" ? value === "attention" : !value;
    if (!usual) [value].flat().forEach((one) => kept.append(name, one === true ? "1" : one));
  }
  history.replaceState(null, "", kept.size ? `?${kept}` : location.pathname);
}

function sum(counts) {
  return Object.values(counts).reduce((all, one) => all + one, 0);
}
