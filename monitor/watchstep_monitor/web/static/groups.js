// Metrics in the order in which a person needs them.

import { reading, ZONES } from "./format.js";

const ACTIONS = ["none", "pin", "skip", "halt", "rollback"];
const SEVERITIES = ["critical", "warning", "info"];
const GOALS = ["loss", "signed_loss", "eval_loss", "reward", "eval_score"];
const LAST = ["guard", "machine", "system"];
const NOT_TRAINING = /(^|\/)(advantages_count|advantages_epsilon|clip_range|n_updates|fps|time_elapsed|total_timesteps)$/;

/**
 * Groups [{name, metrics}]: what the incident's alerts are about, then loss and reward, then the
 * rest by the first part of the name; what the guard and the machine say comes last.
 */
export function grouped(readings, scales, alerts = []) {
  const names = Object.keys(readings);
  const incident = ofAlerts(names, scales, alerts);
  const goals = names.filter((name) => GOALS.includes(scales[name]?.role) && !incident.includes(name));
  const rest = names.filter((name) => !incident.includes(name) && !goals.includes(name));
  const byPrefix = new Map();
  for (const name of rest.sort(byUrgency(readings))) {
    const prefix = name.includes("/") ? name.slice(0, name.indexOf("/")) : "Other";
    byPrefix.set(prefix, [...(byPrefix.get(prefix) || []), name]);
  }
  const prefixes = [...byPrefix.keys()].sort((a, b) => LAST.indexOf(a) - LAST.indexOf(b) || a.localeCompare(b));
  return [
    { name: "Incident", metrics: incident },
    { name: "Loss and reward", metrics: goals.sort(byUrgency(readings)) },
    ...prefixes.map((prefix) => ({ name: prefix, metrics: byPrefix.get(prefix) })),
  ].filter((group) => group.metrics.length > 0);
}

/** The metrics of alerts, the gravest and earliest first; of those that began together the one
 * whose rule acts the hardest. */
function ofAlerts(names, scales, alerts) {
  const grave = alerts.filter((alert) => alert.severity !== "info" && alert.metric);
  const since = (alert) => alert.first_update - ACTIONS.indexOf(alert.action) / 10;
  grave.sort((a, b) => SEVERITIES.indexOf(a.severity) - SEVERITIES.indexOf(b.severity) || since(a) - since(b));
  const metrics = grave.map((alert) => names.find((name) => name === alert.metric || scales[name]?.canonical === alert.metric));
  return [...new Set(metrics.filter(Boolean))];
}

function byUrgency(readings) {
  const rank = (name) => {
    if (NOT_TRAINING.test(name)) return -1;
    return ZONES.indexOf(readings[name].zone || "ok") * 2 + (Number.isFinite(reading(readings[name].value)) ? 0 : 1);
  };
  return (a, b) => rank(b) - rank(a) || a.localeCompare(b);
}
