// The story of an incident: stages, cause with its evidence, what was done, what to do.

import { post } from "./api.js";
import { ask } from "./dialog.js";
import { attempt, el } from "./dom.js";
import { clock, level, number, outside, when, whole } from "./format.js";
import { silenceFor } from "./silences.js";

const STAGES = ["early signs", "explosion", "divergence", "aftermath"];
const MOST_SIGNS = 5;
const RANK = { critical: 0, warning: 1, info: 2 };

/**
 * The panel. `story`: {run (its status), incident, alerts, deliveries, timeline}; `changed` is
 * called after a person did something.
 */
export function incidentPanel(story, changed) {
  const { incident } = story;
  const over = incident.state === "resolved";
  return el(
    "section",
    { class: `panel incident ${incident.severity}`, "aria-labelledby": "incident-title" },
    el("div", { class: "head" },
      el("h2", { id: "incident-title" }, over ? "Last incident, resolved" : "Open incident"),
      level(incident.severity),
      el("span", { class: "quiet" }, "opened ", when(incident.opened_at), over && [", resolved ", when(incident.resolved_at)]),
    ),
    ofReadings(story) && stages(incident),
    diagnosis(story),
    el("div", { class: "columns" }, done(story), advice(story)),
    signs(story, changed),
  );
}

/** Whether any reading went wrong: a death or a hang alone has no stages and spoils no checkpoint. */
function ofReadings({ alerts }) {
  return alerts.some((alert) => alert.metric);
}

function stages(incident) {
  const now = STAGES.indexOf(incident.stage);
  const phases = new Map((incident.stages || []).map((phase) => [phase.stage, phase]));
  const item = (stage, index) => {
    const phase = phases.get(stage);
    const skipped = phases.size > 0 && !phase && index !== now;
    return el(
      "li",
      { class: index < now && !skipped && "past", "aria-current": index === now && "step" },
      stage[0].toUpperCase() + stage.slice(1),
      phase && el("div", { class: "quiet" }, `from update ${whole(phase.first_update)}`),
    );
  };
  return el("ol", { class: "stages", "aria-label": "Stages" }, STAGES.map(item));
}

/** As messages and `watchstep status` say it: the trainer's own step, and the update's number. */
function firstBad({ first_bad_update: update, first_bad_step: step }) {
  return step === update ? `step ${whole(step)}` : `step ${whole(step)} (update ${whole(update)})`;
}

function diagnosis({ incident, alerts }) {
  const last = incident.last_good_update ? `update ${whole(incident.last_good_update)} was the last good one` : "no update before it was good";
  const begun = `It began at ${firstBad(incident)}; ${last}.`;
  if (!incident.diagnosis) {
    const worst = ranked(alerts)[0];
    return el("div", {}, el("p", { class: "diagnosis" }, worst?.summary || "No cause is known."), el("p", { class: "quiet" }, begun));
  }
  const [first, ...others] = incident.causes || [];
  const percent = Math.round(incident.confidence * 100);
  return el(
    "div",
    {},
    el("h3", { class: "quiet" }, "Likely cause"),
    el("p", { class: "diagnosis" }, incident.diagnosis),
    el("p", { class: "quiet" }, el("meter", { min: 0, max: 100, value: percent, "aria-label": "Confidence" }), ` ${percent} % sure. ${begun}`),
    first && reasons("Because", first.evidence),
    first && reasons("Against it", first.against),
    others.length > 0 && el("details", {}, el("summary", {}, "Other causes that fit less"), others.map((cause) => [el("p", {}, `${cause.title} (${Math.round(cause.confidence * 100)} %)`), reasons("Because", cause.evidence)])),
  );
}

/** Why something is likely, or not; null without lines. */
export function reasons(title, lines) {
  return lines?.length ? el("div", { class: "reasons" }, el("strong", {}, `${title}: `), lines.join("; ")) : null;
}

function signs({ alerts }, changed) {
  const shown = ranked(alerts).slice(0, MOST_SIGNS);
  const rest = alerts.length - shown.length;
  return el(
    "div",
    {},
    el("h3", {}, "Alerts"),
    el("ul", { class: "evidence" }, shown.map((alert) => sign(alert, changed))),
    rest > 0 && el("p", { class: "quiet" }, `and ${rest} more: `, el("a", { href: `/alerts?run=${encodeURIComponent(alerts[0].run)}` }, "all alerts of this run")),
  );
}

function sign(alert, changed) {
  return el(
    "li",
    {},
    el("div", { class: "sign" },
      el("div", { class: "row" }, el("strong", {}, alert.rule), level(alert.severity), el("span", { class: "quiet" }, `${alert.state === "firing" ? "since" : `${alert.state}, from`} update ${whole(alert.first_update)}`)),
      el("div", {}, alert.summary),
      el("code", { class: "quiet" }, alert.reason || `${alert.metric} = ${number(alert.reading)}`),
    ),
    el("div", { class: "row end" }, handling(alert, changed)),
  );
}

/** What a person can do about an alert, or who did. */
export function handling(alert, changed) {
  const seen = alert.acknowledged && el("span", { class: "quiet" }, `seen by ${alert.acknowledged_by}`);
  if (alert.state === "resolved") return [seen, answers(alert, changed)];
  return [
    seen || el("button", { type: "button", class: "small", "aria-label": `Acknowledge ${alert.rule} of ${alert.run}`, onclick: () => acknowledge(alert, changed) }, "Acknowledge"),
    alert.silenced ? el("span", { class: "quiet" }, "silenced") : el("button", { type: "button", class: "small plain", "aria-label": `Silence ${alert.rule} of ${alert.run}`, onclick: () => silenceFor(alert, changed) }, "Silence"),
    answers(alert, changed),
  ];
}

/** Whether the alert was right: what people say is counted for each rule. */
function answers(alert, changed) {
  const button = (answer, label) => el("button", { type: "button", class: "small plain", "aria-pressed": String(alert.answer === answer), "aria-label": `${label}: ${alert.rule} of ${alert.run}`, title: alert.answer === answer ? `so says ${alert.answered_by}` : null, onclick: () => say(alert, answer, changed) }, label);
  return alert.state === "pending" ? null : [button("right", "Right"), button("false alarm", "False alarm")];
}

async function say(alert, answer, changed) {
  await attempt(post(`/api/v1/alerts/${alert.id}/answer`, { answer }), `${alert.rule} was called ${answer === "right" ? "right" : "a false alarm"}.`);
  changed();
}

async function acknowledge(alert, changed) {
  await attempt(post(`/api/v1/alerts/${alert.id}/ack`, {}), `${alert.rule} acknowledged: no more reminders of it.`);
  changed();
}

function done({ run, incident, deliveries, timeline }) {
  const skipped = timeline.filter((entry) => entry.event === "guard" && entry.verdict === "skip" && entry.attempt === incident.attempt).length;
  const sent = deliveries.filter((delivery) => delivery.incident === incident.id);
  const lines = [
    run.trainer_did && `The trainer: ${run.trainer_did.replace(/\.$/, "")}.`,
    skipped > 0 && `${whole(skipped)} poisoned optimizer ${skipped === 1 ? "step" : "steps"} kept away from the weights.`,
    run.checkpoint && ["Pinned checkpoint: ", el("code", {}, run.checkpoint.path), ` (step ${whole(run.checkpoint.step)}).`],
    ...run.commands.map((command) => `Asked for by hand: ${command.kind}; waiting for the trainer.`),
    ...[...new Set(sent.map((delivery) => delivery.receiver))].sort().map((receiver) => delivered(receiver, sent.filter((delivery) => delivery.receiver === receiver))),
  ].filter(Boolean);
  return el("div", {}, el("h3", {}, "What was done"), lines.length ? el("ul", {}, lines.map((line) => el("li", {}, line))) : el("p", { class: "quiet" }, "Nothing yet: no rule that fired asks for an action, and no receiver was told."));
}

/** What one receiver heard of an incident: when it was told, and what is still on its way. */
function delivered(receiver, sent) {
  const oldestFirst = [...sent].sort((a, b) => Date.parse(a.created_at) - Date.parse(b.created_at));
  const heard = oldestFirst.filter((delivery) => delivery.state === "delivered").map((delivery) => `${delivery.edge} at ${clock(delivery.settled_at)}`);
  const dead = oldestFirst.filter((delivery) => delivery.state === "dead").at(-1);
  const waiting = oldestFirst.filter((delivery) => delivery.state !== "delivered" && delivery.state !== "dead");
  return [
    heard.length > 0 && `${receiver} was told: ${heard.join(", ")}.`,
    waiting.length > 0 && ` ${receiver} is being told (${waiting.map((delivery) => delivery.edge).join(", ")})${waiting.at(-1).reason ? `: ${waiting.at(-1).reason}` : ""}.`,
    dead && ` ${receiver} could not be told: ${dead.reason}.`,
  ];
}

const FIRST = {
  device: "Make the batch or the sequences smaller, or accumulate gradients.",
  host: "Give the job more memory, or use fewer loader workers.",
  failed: "Read the trainer's last words, and mend what they name.",
  stalled: "See in the timeline where it stands. If it does not go on by itself, kill it.",
  lost: "See whether its process lives and reaches the service.",
  kill: "Find out what killed it: the kernel's log shows whether memory ran out; else a scheduler or a person did it.",
  signal: "Look at its last lines and for a core dump: a signal ended it, no exception.",
  exit: "See its last lines in the timeline for why it left with that code.",
  start: "Mend the command, which could not be started.",
  hang: "See in the timeline where it hung.",
};

function advice(story) {
  const { run, incident, alerts, timeline } = story;
  const runbook = alerts.find((alert) => alert.runbook_url)?.runbook_url;
  const spoilt = ofReadings(story);
  const death = run.status === "failed" && timeline.findLast((entry) => entry.event === "failed" && entry.attempt === run.attempt);
  const steps = [
    FIRST[death?.oom] || FIRST[death?.ended_by] || FIRST[run.status],
    run.status === "running" && incident.state === "open" && spoilt && "Halt the run, unless its hook does so by itself: every further update trains on what went wrong.",
    restart(run, incident, spoilt),
    incident.diagnosis && spoilt && ["Check the cause above against your code before you resume; the first sign was at ", el("strong", {}, firstBad(incident)), "."],
    runbook && outside(runbook, "Follow the rule's runbook"),
  ].filter(Boolean);
  return el("div", {}, el("h3", {}, "What to do"), el("ol", {}, steps.map((step) => el("li", {}, step))));
}

function restart(run, incident, spoilt) {
  if (run.checkpoint) return ["Go on from the last good checkpoint: ", el("code", {}, "watch.restore({...})"), ` takes the one of step ${whole(run.checkpoint.step)}.`];
  const newest = spoilt ? `a checkpoint of before ${firstBad(incident)}` : "the newest checkpoint";
  return `Start again from ${newest}; none is pinned. watch.save(...) pins one next time.`;
}

/** The gravest first, then those that began first. */
export function ranked(alerts) {
  return [...alerts].sort((a, b) => RANK[a.severity] - RANK[b.severity] || Date.parse(a.since) - Date.parse(b.since) || a.first_update - b.first_update);
}

/** Ask a trainer for something, after asking the person. */
export async function order(run, kind, changed) {
  const halt = kind === "halt";
  const answer = await ask({
    title: halt ? `Halt ${run}?` : `Save a checkpoint of ${run}?`,
    text: halt ? "The trainer hears of it in the answer to its next update and ends by raising TrainingHalted. A run that was halted can be resumed as its next attempt." : "The trainer hears of it in the answer to its next update.",
    fields: [{ name: "reason", label: "Reason", hint: "Shown in the timeline.", most: 200 }],
    yes: halt ? "Halt the run" : "Save",
    danger: halt,
  });
  if (!answer) return;
  await attempt(post(`/api/v1/runs/${encodeURIComponent(run)}/commands`, { kind, reason: answer.reason }), halt ? "Halt asked for. The trainer hears of it with its next update." : "Checkpoint asked for.");
  changed();
}
