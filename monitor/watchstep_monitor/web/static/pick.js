// Choosing a run by a part of its name.

import { get } from "./api.js";
import { el, fill } from "./dom.js";
import { calm } from "./live.js";

let count = 0;

/** A labelled field that suggests runs; `chosen(run)` hears of each that is entered. */
export function runPicker(label, chosen, value = "") {
  const id = `run-names-${++count}`;
  const names = el("datalist", { id });
  const suggest = async () => {
    const answer = await get("/page/runs", { q: input.value, sort: "heard", size: 30 });
    fill(names, answer.items.map((item) => el("option", { value: item.run })));
  };
  const input = el("input", { type: "search", value, placeholder: "Part of a name, then choose", list: id, autocomplete: "off", oninput: calm(suggest, 200), onfocus: () => names.childElementCount || suggest(), onchange: () => chosen(input.value.trim()) });
  return el("label", { class: "wide" }, label, input, names);
}
