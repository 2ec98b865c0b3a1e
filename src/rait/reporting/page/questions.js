// The question browser: filters, pages, and what is known of a question. All text is shown as text.
"use strict";

const PAGE = 40;
const WORDS = {correct: "right", wrong: "wrong", refused: "refused"};
const MARKS = {correct: "✓", wrong: "✗", refused: "–"};

/** Show the questions of `runs`; gives a function that opens one. */
function browse(runs) {
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const found = document.getElementById("found");
  const pages = document.getElementById("pages");
  const entries = runs.flatMap((run, of) => run.sets.flatMap((set) => set.id.map((_, at) => ({run, of, set, at}))));
  let shown = entries;
  let page = 0;

  const field = (name) => form.elements[name];
  const options = (select, values) => {
    for (const [value, text] of values) {
      const option = element("option", "", text);
      option.value = value;
      select.append(option);
    }
  };
  const unique = (values) => [...new Set(values)];
  options(field("run"), [["", "all"], ...runs.map((run, of) => [String(of), run.name])]);
  form.querySelector("[data-several]").hidden = runs.length < 2;
  options(field("set"), [["", "all"], ...unique(entries.map((entry) => entry.set.name)).map((name) => [name, name])]);
  const methods = unique(runs.flatMap((run) => [...run.strategies, ...run.methods.filter((name) => name !== "init_basic")]));
  options(field("method"), methods.map((name) => [name, name]));

  const outcome = ({set, at}, method) => set.verdicts?.[method]?.outcome[at] ?? null;
  const role = ({set, at}, method) => set.decisions?.[method]?.role[at] ?? null;
  const band = (mu) => Math.min(4, [0.2, 0.4, 0.6, 0.8].filter((edge) => mu >= edge).length);
  const haystack = (entry) => {
    const {set, at} = entry;
    entry.text ??= [
      set.question[at], set.id[at], set.category[at], ...set.answers[at],
      ...Object.values(set.verdicts ?? {}).map((verdict) => verdict.response[at] ?? ""),
    ].join("\n").toLowerCase();
    return entry.text;
  };

  function matches(entry, wanted) {
    const {of, set, at} = entry;
    if (wanted.run !== "" && String(of) !== wanted.run) return false;
    if (wanted.set !== "" && set.name !== wanted.set) return false;
    if (wanted.before !== "" && outcome(entry, "init_basic") !== wanted.before) return false;
    if (wanted.after !== "" && outcome(entry, wanted.method) !== wanted.after) return false;
    if (wanted.role !== "" && role(entry, wanted.method) !== wanted.role) return false;
    if (wanted.band !== "" && (set.mu[at] === null || band(set.mu[at]) !== Number(wanted.band))) return false;
    if (wanted.search.startsWith("id:")) return set.id[at] === wanted.search.slice(3);
    return wanted.search === "" || haystack(entry).includes(wanted.search.toLowerCase());
  }

  function filter() {
    const wanted = Object.fromEntries(
      ["run", "set", "method", "before", "after", "role", "band", "order", "search"].map((name) => [name, field(name).value]),
    );
    shown = entries.filter((entry) => matches(entry, wanted));
    if (wanted.order !== "") {
      const sign = wanted.order.startsWith("-") ? -1 : 1;
      const name = wanted.order.replace("-", "");
      const value = ({set, at}) => set[name]?.[at] ?? null;
      // Where there is no value the question comes last, whatever the direction.
      shown.sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        return first === null || second === null ? (first === null) - (second === null) : sign * (first - second);
      });
    }
    page = 0;
    show();
  }

  const counted = (method) => {
    const counts = {correct: 0, refused: 0, wrong: 0};
    for (const entry of shown) {
      const of = outcome(entry, method);
      if (of) counts[of] += 1;
    }
    return Object.values(counts).some(Boolean)
      ? Object.entries(counts).map(([name, count]) => `${count} ${WORDS[name]}`).join(", ") : "";
  };

  function show() {
    const method = field("method").value;
    const before = counted("init_basic");
    const after = counted(method);
    found.textContent = `${shown.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} questions`
      + (before ? `; before: ${before}` : "") + (after ? `; ${method}: ${after}` : "");
    list.replaceChildren(...shown.slice(page * PAGE, (page + 1) * PAGE).map((entry) => row(entry, method)));
    const last = Math.max(0, Math.ceil(shown.length / PAGE) - 1);
    pages.hidden = last === 0;
    pages.querySelector("span").textContent = `${page + 1} of ${last + 1}`;
    const [previous, next] = pages.querySelectorAll("button");
    previous.disabled = page === 0;
    next.disabled = page === last;
  }

  function row(entry, method) {
    const {set, at} = entry;
    const item = element("li");
    const button = element("button", "open");
    button.type = "button";
    button.setAttribute("aria-expanded", "false");
    const text = element("span", "text", set.question[at]);
    text.dir = "auto";
    const chips = element("span", "chips");
    if (runs.length > 1) chips.append(element("bdi", "chip", entry.run.name));
    chips.append(element("bdi", "chip", set.name));
    if (set.mu[at] !== null) chips.append(element("span", "chip", `mu ${number(set.mu[at])}`));
    if (role(entry, method)) chips.append(element("span", "chip", role(entry, method)));
    const [before, after] = [outcome(entry, "init_basic"), outcome(entry, method)];
    if (before) chips.append(verdictChip(before));
    if (before && after) chips.append(element("span", "", "→"));
    if (after) chips.append(verdictChip(after));
    button.append(text, chips);
    let detail = null;
    button.addEventListener("click", () => {
      const open = button.getAttribute("aria-expanded") !== "true";
      button.setAttribute("aria-expanded", String(open));
      if (open && !detail) item.append(detail = details(entry));
      detail.hidden = !open;
    });
    item.append(button);
    return item;
  }

  let waiting = 0;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("change", filter);
  form.addEventListener("reset", () => setTimeout(filter));
  field("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(filter, 120);
  });
  pages.addEventListener("click", (event) => {
    const step = Number(event.target.dataset.step ?? 0);
    if (!step) return;
    page += step;
    show();
    list.querySelector("button").focus();
    form.scrollIntoView();
  });
  form.hidden = false;
  filter();

  return (of, set, id) => {
    form.reset();
    field("run").value = runs.length > 1 ? String(of) : "";
    field("set").value = set;
    field("search").value = `id:${id}`;
    setTimeout(() => {
      filter();
      document.getElementById("questions").scrollIntoView();
      const first = list.querySelector("button");
      if (first) {
        first.click();
        first.focus({preventScroll: true});
      }
    });
  };
}

function number(value, sign) {
  if (value === null || value === undefined) return "n/a";
  return (sign && value > 0 ? "+" : "") + String(Math.round(value * 1000) / 1000);
}

function verdictChip(outcome) {
  return element("span", `chip ${WORDS[outcome]}`, `${MARKS[outcome]} ${WORDS[outcome]}`);
}

function block(title, lines, kind) {
  const made = element("div", kind);
  made.append(element("h4", "", title));
  const list = element("ul");
  for (const parts of lines) {
    const line = element("li");
    line.append(...parts);
    list.append(line);
  }
  made.append(list);
  return made;
}

function shownText(text) {
  const made = element("span", "text", text);
  made.dir = "auto";
  return made;
}

/** Everything that is known of a question. */
function details({run, set, at}) {
  const made = element("div", "detail");
  const whole = element("div", "full");
  whole.append(shownText(set.question[at]));
  made.append(whole);
  made.append(block("Accepted answers", set.answers[at].map((answer) => [shownText(answer)])));
  const state = [["mu", set.mu[at]], ["sigma", set.sigma[at]]];
  if (set.d_mu && set.d_mu[at] !== null) state.push(["d_mu", set.d_mu[at], true], ["d_sigma", set.d_sigma[at], true]);
  const facts = state.map(([name, value, sign]) => [element("span", "aside", name), element("span", "", number(value, sign))]);
  if (set.category[at]) facts.push([element("span", "aside", "category"), shownText(set.category[at])]);
  facts.push([element("span", "aside", "id"), shownText(set.id[at])]);
  made.append(block("Knowledge before tuning", facts));
  if (set.options && set.options[at].length) {
    made.append(block("Options", set.options[at].map((option, place) => [
      element("span", "count", number(set.probabilities[at][place])),
      element("span", "", place === set.target[at] ? "✓" : ""),
      shownText(option),
    ])));
  }
  if (set.samples[at].length) {
    made.append(block("Sampled answers", set.samples[at].map(([text, count, right]) => [
      element("span", "count", `${count} ×`), element("span", "", right ? "✓" : "✗"), shownText(text),
    ])));
  }
  const verdicts = Object.entries(set.verdicts ?? {}).filter(([, verdict]) => verdict.outcome[at]);
  if (verdicts.length) {
    made.append(block("Answers", verdicts.map(([method, verdict]) => {
      const parts = [verdictChip(verdict.outcome[at]), element("bdi", "aside", method), shownText(verdict.response[at])];
      const notes = [];
      const chance = verdict.refusal_probability?.[at];
      if (chance !== null && chance !== undefined) notes.push(`p(refuse) ${number(chance)}`);
      if (verdict.answer?.[at] && verdict.answer[at] !== verdict.response[at]) notes.push(`without refusing: ${verdict.answer[at]}`);
      if (notes.length) parts.push(element("bdi", "aside", `(${notes.join("; ")})`));
      return parts;
    }), "full"));
  }
  const decisions = Object.entries(set.decisions ?? {}).filter(([, decision]) => decision.role[at]);
  if (decisions.length) {
    made.append(block("Decisions", decisions.map(([method, decision]) => [
      element("span", "chip", decision.role[at]), element("bdi", "aside", method), shownText(decision.reason[at]),
    ]), "full"));
  }
  const train = run.sets.find((each) => each.decisions);
  const near = Object.entries(set.near ?? {}).filter(([, of]) => of[set.id[at]]);
  for (const [method, of] of near) {
    made.append(block(`Known, but ${method} refuses it; it was taught to refuse, nearest first`, of[set.id[at]].map(([id, cosine]) => {
      const place = train?.at.get(id);
      return [element("span", "count", number(cosine)), shownText(place === undefined ? id : train.question[place])];
    }), "full"));
  }
  return made;
}
