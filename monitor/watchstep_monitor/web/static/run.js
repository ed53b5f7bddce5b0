// One run: how it is, its incident, its charts, its timeline, where and with what it runs.

import { all, get } from "./api.js";
import { Charts, sourcesOf } from "./charts.js";
import { settings, surroundings } from "./config.js";
import { el, fill, refill, trouble } from "./dom.js";
import { metricName, runPath, status, when, whole, zone, ZONES } from "./format.js";
import { grouped } from "./groups.js";
import { incidentPanel, order } from "./incident.js";
import { fromLink, intoLink } from "./link.js";
import { calm, listen } from "./live.js";
import { notesPanel, putAwayButtons, tagList } from "./manage.js";
import { runPicker } from "./pick.js";
import { ending, marksOf, timelineList, unfolded } from "./timeline.js";

const POLL_MS = 2000; // Readings are no events: the newest update is asked for.
const BURST_MS = 400;

export async function show(place) {
  const run = decodeURIComponent(location.pathname.split("/")[2]);
  document.title = `${run} - watchstep`;
  const path = `/api/v1/runs/${encodeURIComponent(run)}`;
  const scalesOf = () => get(`/page/runs/${encodeURIComponent(run)}/scales`);
  const [now, scales] = await Promise.all([get(path), scalesOf()]);
  const view = { run: now, scales, timeline: [], alerts: now.alerts, deliveries: [], incident: null, others: [] };
  const head = el("header", {});
  const story = el("div", {});
  const figures = el("div", {});
  const happened = el("section", { class: "panel", "aria-label": "Timeline" });
  const notes = el("section", { class: "panel", "aria-label": "Notes" });
  const about = el("section", { class: "panel", "aria-label": "Configuration" });
  const ended = el("div", {});
  let names = [run, ...fromLink().getAll("with")];
  const charts = new Charts(sourcesOf(names), (metric) => aboutMetric(view, metric));
  const over = el("div", { class: "controls" });
  fill(place, head, ended, story, figures, el("h2", {}, "Charts"), over, charts.node, happened, notes, about);

  async function overlay(others) {
    intoLink({ with: others });
    const without = (name) => overlay(others.filter((each) => each !== name)).catch(failed);
    fill(over,
      runPicker("Draw another run over this one", (name) => name && name !== run && overlay([...others.filter((each) => each !== name), name]).catch(failed)),
      el("div", { class: "chips" }, others.map((name) => el("button", { type: "button", "aria-label": `Take ${name} away`, onclick: () => without(name) }, name, " ✕"))),
    );
    view.others = await Promise.all(others.map((name) => get(`/api/v1/runs/${encodeURIComponent(name)}`)));
    if (names.length !== others.length + 1) charts.overlay(sourcesOf((names = [run, ...others])));
    drawConfiguration();
  }

  function drawConfiguration() {
    const runs = [view.run, ...view.others];
    refill(about, runs.map((each) => [each.run, each.config]), () => [
      el("h2", {}, "Configuration"),
      el("dl", { class: "figures" }, surroundings(view.run).map(([name, text]) => figure(name, el("small", { class: "mono" }, text)))),
      settings(runs),
    ]);
  }

  async function refreshStatus() {
    const before = view.run;
    view.run = await get(path);
    draw();
    if (view.run.last_seq !== before.last_seq || view.run.attempt !== before.attempt) await charts.advance();
  }

  async function refreshStory(fresh = get(path), lines = scalesOf()) {
    const [current, scales, timeline, alerts, deliveries, incidents] = await Promise.all([
      fresh,
      lines,
      all(`${path}/timeline`, { limit: 500, newest_first: true }),
      all("/api/v1/alerts", { run, limit: 200 }, 400),
      get("/api/v1/deliveries", { run, limit: 50 }),
      get("/api/v1/incidents", { run, limit: 1 }),
    ]);
    const incident = current.incident || incidents.items[0] || null;
    Object.assign(view, { run: current, timeline: timeline.reverse().map(unfolded), scales, incident, deliveries: deliveries.items });
    view.alerts = alerts.filter((alert) => incident && alert.incident === incident.id);
    draw();
    refill(story, [incident, view.alerts, view.deliveries, current.checkpoint, current.trainer_did, current.ended_at, current.commands, view.timeline], () => incident && incidentPanel(view, () => again()));
    refill(happened, view.timeline, () => [el("h2", {}, "Timeline"), timelineList(view.timeline)]);
    refill(ended, [current.status, view.timeline], () => ending(current, view.timeline));
    refill(notes, current.notes, () => notesPanel(current, () => again()));
    drawConfiguration();
    charts.order(grouped(current.readings, scales, view.alerts));
    charts.refresh();
  }

  function draw() {
    const { run: current, incident } = view;
    refill(head, [current.status, current.health, current.attempt, current.tags, current.project, current.trainer, current.ended_at, current.commands, current.error, current.archived], () => heading(current, () => again()));
    refill(figures, [current, incident], () => numbers(view));
  }

  async function again(...fresh) {
    try {
      await refreshStory(...fresh);
      await charts.advance();
    } catch (error) {
      failed(error);
    }
  }

  const failed = (error) => fill(story, trouble(error, () => again()));
  draw();
  charts.order(grouped(now.readings, scales, now.alerts)); // The charts load while the story is asked for.
  await Promise.all([again(now, scales), overlay(names.slice(1)).catch(failed)]);
  const soon = calm(() => again(), BURST_MS);
  listen((kind, event) => (kind === "again" || event.run === run) && soon());
  setInterval(() => document.hidden || view.run.ended_at || refreshStatus().catch(() => {}), POLL_MS);
}

function heading(run, changed) {
  const ended = run.ended_at !== null;
  const halting = run.commands.some((command) => command.kind === "halt");
  return [
    el(
      "div",
      { class: "head" },
      el("h1", {}, run.run),
      status(run.status),
      status(run.health),
      run.archived && el("span", { class: "pill" }, "archived"),
      el("span", { class: "grow" }),
      el("a", { href: `/compare?run=${encodeURIComponent(run.run)}` }, "Compare"),
      el("a", { href: `${runPath(run.run)}/postmortem` }, "Post-mortem"),
      ended && putAwayButtons(run, changed),
      !ended && el("button", { type: "button", onclick: () => order(run.run, "checkpoint", changed) }, "Save checkpoint"),
      !ended && el("button", { type: "button", class: "danger", disabled: halting, onclick: () => order(run.run, "halt", changed) }, halting ? "Halt asked for" : "Halt"),
    ),
    el("div", { class: "under" }, [run.project, run.trainer, `attempt ${run.attempt}`].filter(Boolean).join(" · "), tagList(run, changed)),
    run.error && el("p", { class: "mono" }, run.error),
  ];
}

function figure(name, ...value) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, value));
}

function numbers({ run, incident }) {
  const zones = Object.entries(run.readings).filter(([, each]) => each.zone).sort(([, a], [, b]) => ZONES.indexOf(b.zone) - ZONES.indexOf(a.zone));
  const worst = zones[0];
  return el(
    "dl",
    { class: "panel figures" },
    figure("Step", whole(run.step)),
    figure("Update", whole(run.last_seq)),
    figure("Last heard", when(run.last_heard_at)),
    figure("Worst zone", worst ? [zone(worst[1].zone), " ", worst[1].zone !== "ok" && el("small", { class: "quiet block" }, metricName(worst[0]))] : "none"),
    figure("Alerts firing", whole(run.counts.firing)),
    figure("Pinned checkpoint", run.checkpoint ? [`step ${whole(run.checkpoint.step)} `, el("small", { class: "mono quiet" }, run.checkpoint.path)] : "none"),
    figure("Lost updates", whole(run.counts.lost)),
    run.trainer_did && !incident && figure("The trainer", el("small", {}, run.trainer_did)),
    incident && !run.incident && figure("Last incident", when(incident.resolved_at)),
  );
}

function aboutMetric({ run, scales, timeline }, metric) {
  return { scale: scales[metric] || { zones: [], thresholds: [] }, marks: marksOf(timeline, [metric, scales[metric]?.canonical]), zone: run.readings[metric]?.zone };
}
