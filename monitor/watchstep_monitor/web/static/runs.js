// The list of runs. Rows hold still: their order changes at a click only, and what is new waits for it.

import { get } from "./api.js";
import { el, fill, refill, trouble } from "./dom.js";
import { metricName, number, runLink, speed, status, when, whole, zone } from "./format.js";
import { fromLink, intoLink, remembered } from "./link.js";
import { calm, listen } from "./live.js";
import { bulkButtons } from "./manage.js";
import { spark } from "./spark.js";

const STATUSES = ["running", "failed", "stalled", "lost", "halted", "preempted", "finished"];
const SORTS = [["attention", "What needs attention"], ["heard", "Newest heard of"], ["started", "Newest started"], ["name", "Name"], ["status", "Status"], ["health", "Health"], ["step", "Step"]];
const FALLING = ["started", "step"]; // Sorted from the greatest down where nobody says otherwise.
const REFRESH_MS = 5000; // Steps and speeds are no events: they are asked for.
const BURST_MS = 700;
const LAYOUT = "watchstep-columns";
const COLUMNS = {
  status: { label: "Status", sort: "status", cell: (item) => status(item.status) },
  health: { label: "Health", sort: "health", cell: (item) => status(item.health) },
  worst: { label: "Worst zone", cell: (item, preview) => preview?.worst && [zone(preview.worst.zone), preview.worst.zone !== "ok" && el("div", { class: "under" }, metricName(preview.worst.metric))] },
  incident: { label: "Incident", full: true, cell: (item) => (item.incident ? incident(item) : item.error && el("span", { class: "clamp" }, item.error)) },
  recent: { label: "Recently", full: true, cell: (item, preview) => preview?.spark.length > 0 && [spark(preview.metric, preview.spark), el("div", { class: "under" }, metricName(preview.metric))] },
  step: { label: "Step", sort: "step", right: true, cell: (item) => whole(item.step) },
  speed: { label: "Speed", right: true, cell: (item, preview) => preview && speed(preview.steps_per_s) },
  heard: { label: "Heard", sort: "heard", right: true, cell: (item) => when(item.heard_at) },
};

export async function show(place) {
  const query = fromAddress();
  document.body.classList.toggle("wall", query.wall);
  const view = { query, items: [], previews: new Map(), chosen: new Set(), count: 0 };
  const chips = el("div", { class: "chips", role: "group", "aria-label": "Status" });
  const total = el("span", { class: "quiet", role: "status" });
  const news = el("span", { role: "status" });
  const list = el("div", {});
  const pages = el("nav", { class: "pages", "aria-label": "Pages" });
  const project = el("select", { name: "project", onchange: () => change({ project: project.value }) });
  const sort = el("select", { name: "sort", onchange: () => change({ sort: sort.value, descending: FALLING.includes(sort.value) }) });
  const bulk = el("div", { class: "row bulk", role: "group", "aria-label": "Chosen runs" });
  const close = (event) => menu.contains(event.target) && event.key !== "Escape" ? null : (menu.open = false);
  const menu = el("details", { class: "menu", ontoggle: () => menu.open && fillMenu(), onkeydown: (event) => event.key === "Escape" && close(event) }, el("summary", {}, "Columns"), el("div", { class: "panel row-gap" }));
  fill(
    place,
    el("div", { class: "head" }, el("h1", {}, "Runs"), total, news, el("span", { class: "grow" }), chips),
    controls(query, project, sort, menu, change),
    bulk,
    list,
    pages,
  );

  function change(fields) {
    Object.assign(query, { page: 1 }, fields);
    toAddress(query);
    return refresh(true);
  }

  /** Ask for the rows; those on the screen hold still unless a person wants them sorted. */
  async function refresh(sorted = false, anew = false) {
    const turn = ++view.count;
    const hold = sorted || query.wall ? [] : view.items.map((item) => item.run);
    try {
      const answer = await get("/page/runs", { ...query, wall: null, hide: null, size: query.wall ? 25 : 50, hold, anew: anew || null });
      if (turn === view.count) draw(answer); // Else a later question is on its way.
    } catch (error) {
      if (turn === view.count) fill(list, trouble(error, () => refresh(true)));
    }
  }

  function draw(answer) {
    view.items = answer.items;
    const open = answer.open_incidents;
    document.title = `${open ? `(${whole(open)}) ` : ""}Runs - watchstep`; // Seen in a tab among others.
    total.textContent = `${whole(answer.total)} shown, ${open ? `${whole(open)} with an open incident` : "no open incident"}`;
    const waiting = answer.new ? `${whole(answer.new)} new` : answer.moved ? "Order has changed" : "";
    refill(news, waiting, () => waiting && el("button", { type: "button", class: "small", title: "Sort the list again", onclick: () => refresh(true) }, waiting));
    refill(chips, [answer.counts, query.status], () => [chip("all", null, sum(answer.counts)), STATUSES.filter((word) => answer.counts[word] || word === query.status).map((word) => chip(word, word, answer.counts[word] || 0))]);
    options(project, [["", "All"], ...answer.projects.map((name) => [name, name])], query.project || "");
    options(sort, [...SORTS, ...query.column.map((column) => [column, labelOf(column)])], query.sort);
    if (answer.items.length === 0) fill(list, nothing(query));
    else table();
    refill(pages, [answer.page, answer.pages], () => pager(answer, (page) => change({ page })));
    drawBulk();
  }

  function chip(word, value, count) {
    const pressed = (query.status || null) === value;
    return el("button", { type: "button", "aria-pressed": String(pressed), onclick: () => change({ status: value }) }, word, el("b", {}, whole(count)));
  }

  function columns() {
    const own = Object.entries(COLUMNS).filter(([name]) => !query.hide.includes(name)).map(([name, column]) => ({ name, ...column }));
    return [...own, ...query.column.map((name) => ({ name, label: labelOf(name), sort: name, right: true, cell: (item) => shown(item.columns[name]) }))];
  }

  function table() {
    const shownColumns = columns();
    const key = JSON.stringify([shownColumns.map((column) => column.name), query.sort, query.descending]);
    let body = list.querySelector("tbody");
    if (!body || body.dataset.key !== key) {
      body = el("tbody", { "data-key": key });
      const head = el("tr", {}, el("td", {}, chooseAll()), header({ label: "Run", sort: "name" }), shownColumns.map(header));
      fill(list, el("div", { class: "panel table scroll" }, el("table", { class: "stack" }, el("caption", { class: "visually-hidden" }, "Runs"), el("thead", {}, head), body)));
    }
    const before = new Map([...body.rows].map((line) => [line.dataset.run, line]));
    const lines = view.items.map((item) => before.get(item.run) || el("tr", { "data-run": item.run }));
    if (lines.length !== body.rows.length || lines.some((line, index) => body.rows[index] !== line)) body.replaceChildren(...lines);
    drawRows();
    preview();
  }

  function header({ label, sort: by, right }) {
    const sorted = by && query.sort === by;
    const turn = () => change({ sort: by, descending: sorted ? !query.descending : FALLING.includes(by) });
    const name = by ? el("button", { type: "button", class: "plain sorter", onclick: turn }, label, sorted && el("span", { "aria-hidden": "true" }, query.descending ? " ↓" : " ↑")) : label;
    return el("th", { scope: "col", class: right && "num", "aria-sort": sorted && (query.descending ? "descending" : "ascending") }, name);
  }

  function chooseAll() {
    const box = el("input", { type: "checkbox", "aria-label": "Choose all runs on this page", onchange: () => {
      view.items.forEach((item) => (box.checked ? view.chosen.add(item.run) : view.chosen.delete(item.run)));
      drawRows();
      drawBulk();
    } });
    return box;
  }

  function drawRows() {
    const lines = new Map([...list.querySelectorAll("tbody tr")].map((line) => [line.dataset.run, line]));
    for (const item of view.items) {
      const line = lines.get(item.run);
      const seen = view.previews.get(item.run);
      const chosen = view.chosen.has(item.run);
      line.className = !item.incident ? "" : item.incident.severity === "critical" ? "urgent" : "caution";
      refill(line, [item, seen, chosen], () => cells(item, seen, chosen));
    }
  }

  function cells(item, seen, chosen) {
    const tags = Object.entries(item.tags).slice(0, 4).map(([name, value]) => el("span", { class: "tag" }, `${name}=${value}`));
    const box = el("input", { type: "checkbox", checked: chosen, "aria-label": `Choose ${item.run}`, onchange: () => {
      if (box.checked) view.chosen.add(item.run);
      else view.chosen.delete(item.run);
      drawBulk();
    } });
    return [
      el("td", { class: "choose" }, box),
      el("td", {}, runLink(item.run), el("div", { class: "under" }, [item.project, item.trainer].filter(Boolean).join(" · "), tags)),
      columns().map(({ name, label, right, full, cell }) => el("td", { class: [right && "num", full && "full"].filter(Boolean).join(" "), "data-column": name, "data-name": right && label.toLowerCase() }, cell(item, seen))),
    ];
  }

  /** Fill in what takes reading a run's updates, once the rows are there. */
  async function preview() {
    const names = view.items.map((item) => item.run);
    const answer = await get("/page/previews", { run: names }).catch(() => null);
    if (!answer) return; // The rows say what matters; the next refresh asks again.
    answer.items.forEach((item) => view.previews.set(item.run, item));
    if (view.items.length === list.querySelectorAll("tbody tr").length) drawRows();
  }

  function drawBulk() {
    refill(bulk, [[...view.chosen], query.archived], () => view.chosen.size > 0 && [
      el("strong", {}, `${whole(view.chosen.size)} chosen`),
      bulkButtons(() => [...view.chosen], query.archived, () => {
        view.chosen.clear();
        refresh(true, true);
      }),
    ]);
  }

  async function fillMenu() {
    const names = view.items.map((item) => item.run);
    const answer = await get("/page/columns", { run: names }).catch(() => ({ items: [] }));
    const set = (fields) => {
      remembered(LAYOUT, {}, { hide: query.hide, column: query.column, ...fields });
      change(fields);
      fillMenu();
    };
    const toggle = (name) => set({ hide: query.hide.includes(name) ? query.hide.filter((each) => each !== name) : [...query.hide, name] });
    const box = (checked, label, onchange) => el("label", { class: "check" }, el("input", { type: "checkbox", checked, onchange }), label);
    const add = el("input", { list: "column-names", placeholder: "metric:train/loss, config:lr or tag:seed", onchange: () => add.value.includes(":") && set({ column: [...new Set([...query.column, add.value.trim()])].slice(-12) }) });
    fill(menu.lastChild,
      Object.entries(COLUMNS).map(([name, { label }]) => box(!query.hide.includes(name), label, () => toggle(name))),
      query.column.map((column) => box(true, labelOf(column), () => set({ column: query.column.filter((each) => each !== column) }))),
      el("label", {}, "Any metric, setting or tag", add),
      el("datalist", { id: "column-names" }, answer.items.map((value) => el("option", { value }))),
    );
  }

  document.addEventListener("pointerdown", close);
  await refresh(true);
  listen(calm(() => document.hidden || refresh(), BURST_MS));
  setInterval(() => document.hidden || refresh(), REFRESH_MS);
}

function controls(query, project, sort, menu, change) {
  const search = el("input", { type: "search", name: "q", value: query.q, placeholder: "Name, project, trainer or tag", oninput: calm(() => change({ q: search.value }), 200) });
  const tag = el("input", { name: "tag", value: query.tag.join(" "), placeholder: "env=Walker seed", onchange: () => change({ tag: tag.value.split(/\s+/).filter(Boolean) }) });
  const archived = el("input", { type: "checkbox", checked: query.archived, onchange: () => change({ archived: archived.checked }) });
  return el(
    "form",
    { class: "controls", role: "search", onsubmit: (event) => event.preventDefault() },
    el("label", { class: "wide" }, "Search", search),
    el("label", {}, "Project", project),
    el("label", {}, "Tags", tag),
    el("label", {}, "Order", sort),
    el("label", { class: "check" }, archived, "Archived"),
    menu,
  );
}

function options(select, pairs, chosen) {
  refill(select, pairs, () => pairs.map(([value, label]) => el("option", { value }, label)));
  select.value = chosen;
}

function labelOf(column) {
  return column.slice(column.indexOf(":") + 1);
}

function shown(value) {
  if (value === null || value === undefined) return null;
  return typeof value === "number" || ["NaN", "Infinity", "-Infinity"].includes(value) ? number(value) : typeof value === "object" ? JSON.stringify(value) : String(value);
}

function incident({ health, incident: { stage, diagnosis } }) {
  // Stages are of readings: what died or hangs with sound ones has none.
  const named = health !== "healthy" || !diagnosis;
  return [named && el("strong", {}, stage[0].toUpperCase() + stage.slice(1)), diagnosis && el("span", { class: "clamp" }, diagnosis)];
}

function pager(answer, go) {
  if (answer.pages < 2) return null;
  const button = (label, page, able) => el("button", { type: "button", disabled: !able, onclick: () => go(page) }, label);
  return [
    button("Previous", answer.page - 1, answer.page > 1),
    el("span", { class: "quiet" }, `Page ${whole(answer.page)} of ${whole(answer.pages)}`),
    button("Next", answer.page + 1, answer.page < answer.pages),
  ];
}

function nothing(query) {
  const filtered = query.q || query.status || query.project || query.tag.length || query.archived;
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
  const address = fromLink();
  const layout = address.has("column") || address.has("hide") ? {} : remembered(LAYOUT, {});
  return {
    q: address.get("q") || "",
    status: address.get("status"),
    project: address.get("project"),
    tag: address.getAll("tag"),
    sort: address.get("sort") || "attention",
    descending: address.has("descending"),
    archived: address.has("archived"),
    column: layout.column || address.getAll("column"),
    hide: layout.hide || address.getAll("hide"),
    page: Number(address.get("page")) || 1,
    wall: address.has("wall"),
  };
}

function toAddress(query) {
  intoLink({ ...query, page: query.page === 1 ? null : query.page, sort: query.sort === "attention" ? null : query.sort, descending: query.descending ? 1 : null, archived: query.archived ? 1 : null, wall: query.wall ? 1 : null });
}

function sum(counts) {
  return Object.values(counts).reduce((all, count) => all + count, 0);
}
