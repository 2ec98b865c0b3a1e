// Draws the charts of a report. Vega evaluates expressions with its interpreter (ast), so that no code is made of text.
"use strict";

const CONFIG = {
  aria: false,  // each plot has its own label, and a table or a caption beside it
  background: null,
  font: "system-ui, sans-serif",
  view: {stroke: null},
  axis: {
    labelColor: "var(--muted)", titleColor: "var(--muted)", gridColor: "var(--line)", domainColor: "var(--line)",
    tickColor: "var(--line)", labelFontSize: 11, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
  },
  text: {color: "var(--muted)"},
};
const MOST_POINTS = 4000;

const specs = JSON.parse(document.getElementById("charts").textContent);
const tip = document.getElementById("tip");

/** An element with a class and a text; the text is never markup. */
function element(tag, kind, text) {
  const made = document.createElement(tag);
  if (kind) made.className = kind;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What a point is, beside the pointer; of one that stands for many questions the texts of some. */
function showTip(event, value, examples, such = "such as") {
  tip.hidden = value === null || value === undefined || value === "";
  if (tip.hidden) return;
  tip.replaceChildren();
  for (const [name, shown] of Object.entries(value)) {
    if (name === "question" || name === "method") {
      const head = element("b", "text", String(shown));
      head.dir = "auto";
      tip.append(head);
    } else {
      const line = element("div", "");
      line.append(element("span", "", `${name} `), String(shown));
      tip.append(line);
    }
  }
  if (examples.length) tip.append(element("div", "such", such));
  for (const text of examples) {
    const line = element("div", "text", text);
    line.dir = "auto";
    tip.append(line);
  }
  const {width, height} = tip.getBoundingClientRect();
  tip.style.left = `${Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
  tip.style.top = `${Math.max(8, event.clientY + 14 + height > innerHeight ? event.clientY - height - 14 : event.clientY + 14)}px`;
}

/** A number in [-1, 1] that belongs to a text: points are moved apart the same way each time. */
function shift(text, salt) {
  let hash = 2166136261 ^ salt;
  for (let at = 0; at < text.length; at++) hash = Math.imul(hash ^ text.charCodeAt(at), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822519);
  return ((hash ^ (hash >>> 13)) >>> 0) / 2 ** 31 - 1;
}

/** The points of the knowledge flow: an even part of the questions where there are too many. */
function flowRows(run) {
  const train = run.sets.find((set) => set.d_mu);
  if (!train) return [];
  const known = train.id.map((_, at) => at).filter((at) => train.d_mu[at] !== null && train.mu[at] !== null);
  const every = Math.max(1, known.length / MOST_POINTS);
  const rows = [];
  for (let next = 0; Math.floor(next) < known.length; next += every) {
    const at = known[Math.floor(next)];
    rows.push({
      id: train.id[at], question: train.question[at], mu: train.mu[at], d_mu: train.d_mu[at],
      x: train.mu[at] + 0.042 * shift(train.id[at], 1), y: train.d_mu[at] + 0.042 * shift(train.id[at], 2),
    });
  }
  return rows;
}

/** The places of the questions that a strategy takes. */
function mapRows(run, strategy) {
  const map = run.maps[strategy];
  const train = run.sets.find((set) => set.decisions);
  if (!map || !train || !train.decisions[strategy]) return [];
  return map.ids.flatMap((id, at) => {
    const place = train.at.get(id);
    const role = place === undefined ? undefined : train.decisions[strategy].role[place];
    return role ? [{id, question: train.question[place], role, x: map.x[at], y: map.y[at]}] : [];
  });
}

/** Draw the chart of a place from the data of `run`; `rows` are those that it names. Gives the view. */
async function draw(plot, run, rows, open) {
  const set = run?.sets.find((each) => each.name === plot.dataset.set);
  const examples = (datum) => (datum?.ids ?? []).flatMap((id) => set?.at.has(id) ? [set.question[set.at.get(id)]] : []);
  const spec = specs[plot.dataset.chart];
  if (rows) spec.datasets = {...spec.datasets, ...rows};
  const {view} = await window.vegaEmbed(plot, spec, {
    mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, ast: true, config: CONFIG,
    tooltip: (_, event, item, value) => showTip(event, value, examples(item?.datum), item?.datum?.such),
  });
  if (open) {
    view.addEventListener("click", (_, item) => {
      if (item && item.datum && item.datum.id !== undefined) open(item.datum.id);
    });
  }
  return view;
}
