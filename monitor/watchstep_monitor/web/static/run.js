// One run: how it is, its incident, its charts, its timeline.

import { all, get } from "./api.js";
import { Charts } from "./charts.js";
import { el, fill, refill, trouble } from "./dom.js";
import { metricName, number, reading, runPath, status, when, whole, zone, ZONES } from "./format.js";
import { incidentPanel, order } from "./incident.js";
import { calm, listen } from "./live.js";
import { marksOf, timelineList, unfolded } from "./timeline.js";

const POLL_MS = 2000; // Readings are no events: the newest update is asked for.
const BURST_MS = 400;
const ACTIONS = ["none", "pin", "skip", "halt", "rollback"];
const NOT_TRAINING = /(^|\/)(advantages_count|advantages_epsilon|clip_range|n_updates|fps|time_elapsed|total_timesteps)$/;

export async function show(place) {
  const run = decodeURIComponent(location.pathname.split("/")[2]);
  document.title = `${run} - watchstep`;
  const path = `/api/v1/runs/${encodeURIComponent(run)}`;
  const known = { run: await get(path), scales: {}, timeline: [], alerts: [], deliveries: [], incident: null };
  const head = el("header", {});
  const story = el("div", {});
  const figures = el("div", {});
  const happened = el("section", { class: "panel", "aria-label": "Timeline" });
  const about = el("section", { class: "panel", "aria-label": "Configuration" });
  const charts = new Charts([{ run, label: "", colour: "trace" }], (metric) => aboutMetric(known, metric), () => known.run.step);
  fill(place, head, story, figures, el("h2", {}, "Charts"), charts.node, happened, about);

  async function refreshStatus() {
    const before = known.run;
    known.run = await get(path);
    draw();
    if (known.run.last_seq !== before.last_seq || known.run.attempt !== before.attempt) await charts.advance();
  }

  async function refreshStory(fresh = get(path)) {
    const [now, timeline, alerts, deliveries, incidents, scales] = await Promise.all([
      fresh,
      all(`${path}/timeline`, { limit: 500 }),
      all("/api/v1/alerts", { run, limit: 200 }, 400),
      get("/api/v1/deliveries", { run, limit: 50 }),
      get("/api/v1/incidents", { run, limit: 1 }),
      get(`/page/runs/${encodeURIComponent(run)}/scales`),
    ]);
    const incident = now.incident || incidents.items[0] || null;
    Object.assign(known, { run: now, timeline: timeline.map(unfolded), scales, incident, deliveries: deliveries.items });
    known.alerts = alerts.filter((alert) => incident && alert.incident === incident.id);
    draw();
    const { alerts: firing, deliveries: told } = known;
    refill(story, [incident, firing, told, now.checkpoint, now.trainer_did, now.ended_at, now.commands, known.timeline], () => incident && incidentPanel(known, () => again()));
    refill(happened, known.timeline, () => [el("h2", {}, "Timeline"), timelineList(known.timeline)]);
    refill(about, [now.config, now.rules], () => [el("h2", {}, "Configuration and tags"), configuration(now)]);
    charts.order(inOrder(now));
    charts.refresh();
  }

  function draw() {
    const { run: now, incident } = known;
    refill(head, [now.status, now.attempt, now.tags, now.project, now.trainer, now.ended_at, now.commands, now.error], () => heading(now, () => again()));
    refill(figures, [now, incident], () => numbers(known));
  }

  async function again(fresh = undefined) {
    try {
      await refreshStory(fresh);
      await charts.advance();
    } catch (error) {
      fill(story, trouble(error, () => again()));
    }
  }

  draw();
  charts.order(inOrder(known.run)); // The charts load while the story is asked for.
  await again(known.run);
  const soon = calm(() => again(), BURST_MS);
  listen((kind, told) => (kind === "again" || told.run === run) && soon());
  setInterval(() => document.hidden || known.run.ended_at || refreshStatus().catch(() => {}), POLL_MS);
}

function heading(run, changed) {
  const tags = Object.entries(run.tags).map(([name, value]) => el("span", { class: "tag" }, `${name}=${value}`));
  const ended = run.ended_at !== null;
  const asked = run.commands.some((command) => command.kind === "halt");
  return [
    el(
      "div",
      { class: "head" },
      el("h1", {}, run.run),
      status(run.status),
      status(run.health),
      el("span", { class: "grow" }),
      el("a", { href: `/compare?a=${encodeURIComponent(run.run)}` }, "Compare"),
      el("a", { href: `${runPath(run.run)}/postmortem` }, "Post-mortem"),
      !ended && el("button", { type: "button", onclick: () => order(run.run, "checkpoint", changed) }, "Save checkpoint"),
      !ended && el("button", { type: "button", class: "danger", disabled: asked, onclick: () => order(run.run, "halt", changed) }, asked ? "Halt asked for" : "Halt"),
    ),
    el("div", { class: "under" }, [run.project, run.trainer, `attempt ${run.attempt}`].filter(Boolean).join(" · "), tags),
    run.error && el("p", { class: "mono" }, run.error),
  ];
}

function numbers({ run, incident }) {
  const zones = Object.entries(run.readings).filter(([, one]) => one.zone).sort(([, a], [, b]) => ZONES.indexOf(b.zone) - ZONES.indexOf(a.zone));
  const worst = zones[0];
  const figure = (name, ...value) => el("div", {}, el("dt", {}, name), el("dd", {}, value));
  return el(
    "dl",
    { class: "panel figures" },
    figure("Step", whole(run.step)),
    figure("Update", whole(run.last_seq)),
    figure("Last heard", when(run.last_update_at)),
    figure("Worst zone", worst ? [zone(worst[1].zone), " ", worst[1].zone !== "ok" && el("small", { class: "quiet block" }, metricName(worst[0]))] : "none"),
    figure("Alerts firing", whole(run.counts.firing)),
    figure("Pinned checkpoint", run.checkpoint ? [`step ${whole(run.checkpoint.step)} `, el("small", { class: "mono quiet" }, run.checkpoint.path)] : "none"),
    figure("Lost updates", whole(run.counts.lost)),
    run.trainer_did && figure("The trainer", el("small", {}, run.trainer_did)),
    incident && !run.incident && figure("Last incident", when(incident.resolved_at)),
  );
}

function aboutMetric({ run, scales, timeline }, metric) {
  return { scale: scales[metric] || { zones: [], thresholds: [] }, marks: marksOf(timeline, metric), zone: run.readings[metric]?.zone };
}

/** Metrics in the order in which a person needs them: the alerts', then the worst zones'. */
function inOrder(run) {
  const grave = run.alerts.filter((alert) => alert.severity === "critical");
  // Of alerts that began together the one that a rule acts on the hardest comes first.
  const since = (alert) => alert.first_update - ACTIONS.indexOf(alert.action) / 10;
  const first = new Map(grave.map((alert) => [alert.metric, since(alert)]).sort((a, b) => b[1] - a[1]));
  const rank = (name) => {
    const one = run.readings[name];
    const beyond = Number.isFinite(reading(one.value)) ? 0 : 1;
    return NOT_TRAINING.test(name) ? -1 : ZONES.indexOf(one.zone || "ok") * 2 + beyond;
  };
  return Object.keys(run.readings).sort((a, b) => (first.get(a) ?? Infinity) - (first.get(b) ?? Infinity) || rank(b) - rank(a) || a.localeCompare(b));
}

function configuration(run) {
  const rows = [...Object.entries(run.config), ["created", run.created_at], ["rules", run.rules.slice(0, 12)]];
  const text = (value) => (typeof value === "number" ? number(value) : typeof value === "object" ? JSON.stringify(value) : String(value));
  return el("dl", { class: "figures" }, rows.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, el("small", { class: "mono" }, text(value))))));
}

