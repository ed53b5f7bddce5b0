// What of a view is kept: in its address, so that a link shows the same; and in this browser.

/** The address's parameters. */
export function fromLink() {
  return new URLSearchParams(location.search);
}

/** Replace some parameters of the address; lists are repeated, empty values are left out. */
export function intoLink(fields) {
  const query = fromLink();
  for (const [name, value] of Object.entries(fields)) {
    query.delete(name);
    for (const each of [value].flat()) {
      if (each !== null && each !== undefined && each !== "") query.append(name, each);
    }
  }
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
}

/** What this browser keeps under a name, or `usual`; `value` replaces it. */
export function remembered(name, usual, value = undefined) {
  try {
    if (value !== undefined) localStorage.setItem(name, JSON.stringify(value));
    return JSON.parse(localStorage.getItem(name)) ?? usual;
  } catch {
    return usual; // A browser that keeps nothing, or something else wrote there.
  }
}
