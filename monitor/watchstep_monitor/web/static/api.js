// Calls to the service. A token, where one is needed, is kept by the browser in a cookie that no
// script can read.

import { askForToken } from "./dialog.js";
import { remembered } from "./link.js";

const SIGNED_IN = "watchstep-signed-in"; // Scripts cannot see the cookie itself.

/** A refused call, as the service explained it. */
export class Refused extends Error {
  constructor(status, problem) {
    const flaws = (problem.errors || []).map((flaw) => flaw.msg).filter(Boolean);
    super([problem.detail || "The service gave no reason.", ...flaws].join(" "));
    this.status = status;
    this.title = problem.title || `HTTP ${status}`;
  }
}

/** GET an answer. `query` values may be lists; empty ones are left out. */
export function get(path, query = {}, signal = undefined) {
  return call("GET", path + search(query), undefined, signal);
}

export function post(path, body = undefined) {
  return call("POST", path, body);
}

export function patch(path, body) {
  return call("PATCH", path, body);
}

/** POST a file as it is. */
export function send(path, query, file) {
  return call("POST", path + search(query), file);
}

export function remove(path) {
  return call("DELETE", path);
}

/** All items of a list, following its cursors up to `most`. */
export async function all(path, query = {}, most = 2000) {
  const items = [];
  let cursor = null;
  do {
    const page = await get(path, { ...query, cursor });
    items.push(...page.items);
    cursor = page.next_cursor;
  } while (cursor && items.length < most);
  return items;
}

async function call(method, path, body, signal) {
  for (;;) {
    const headers = { Accept: "application/json" };
    const file = body instanceof Blob;
    if (body !== undefined) headers["Content-Type"] = file ? "application/octet-stream" : "application/json";
    const answer = await fetched(path, {
      method,
      headers,
      body: body === undefined || file ? body : JSON.stringify(body),
      signal,
    });
    if (answer.status === 401) {
      await newToken();
      continue;
    }
    if (answer.ok) return answer.status === 204 ? null : answer.json();
    throw new Refused(answer.status, await problemOf(answer));
  }
}

async function fetched(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { title: "No answer", detail: "The service cannot be reached." });
  }
}

async function problemOf(answer) {
  try {
    return await answer.json();
  } catch {
    return {};
  }
}

let asking = null;

/** Ask for a token until the service takes one; once, however many calls need it. */
export function newToken() {
  asking ??= signIn().finally(() => (asking = null));
  return asking;
}

async function signIn() {
  for (let reason = null; ; ) {
    const token = await askForToken(reason);
    const answer = await fetched("/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } }).catch(() => null);
    if (answer?.ok) return remembered(SIGNED_IN, false, true);
    reason = answer ? (await problemOf(answer)).detail : "The service cannot be reached.";
  }
}

/** Whether this browser keeps a token, as far as it remembers. */
export function signedIn() {
  return remembered(SIGNED_IN, false);
}

/** Have the browser forget the token. */
export async function signOut() {
  await remove("/session");
  remembered(SIGNED_IN, false, false);
  location.reload();
}

function search(query) {
  const pairs = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const item of [value].flat()) {
      if (item !== null && item !== undefined && item !== "") pairs.append(name, item);
    }
  }
  const text = pairs.toString();
  return text ? `?${text}` : "";
}
