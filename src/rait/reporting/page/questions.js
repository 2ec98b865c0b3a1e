// The question browser: filters, pages, and what is known of a question. All text is shown as text.
"use strict";

const PAGE = 40;
const WORDS = {correct: "right", wrong: "wrong", refused: "refused", failed: "not asked"};
const FILTERS = ["search", "run", "set", "before", "after", "role", "band"];
const DIAL = "/dial";  // behind the name of a method, which holds no slash
const MARKS = {correct: "✓", wrong: "✗", refused: "–", failed: "!"};

/** Show the questions of `runs`; gives a function that opens one. */
function browse(runs) {
  const form = document.getElementById("filters");
  const list = document.getElementById("list");
  const found = document.getElementById("found");
  const none = document.getElementById("none");
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
  const hasDial = (name) => runs.some((run) => run.sets.some((set) => set.verdicts?.[name]?.dial));
  options(field("method"), methods.flatMap((name) => [
    [name, name], ...(hasDial(name) ? [[name + DIAL, `${name} + dial`]] : []),
  ]));
  if (!runs.some((run) => run.sets.some((set) => Object.values(set.verdicts ?? {}).some((verdict) => verdict.p_refuse)))) {
    for (const option of form.querySelectorAll('option[value$="p_refuse"]')) option.remove();
  }

  if (!entries.some(({set, at}) => Object.values(set.verdicts ?? {}).some((verdict) => verdict.outcome[at] === "failed"))) {
    for (const option of form.querySelectorAll('option[value="failed"]')) option.remove();
  }

  // A method is chosen as it decodes greedily, or with its dial.
  const bare = (method) => method.endsWith(DIAL) ? method.slice(0, -DIAL.length) : method;
  const outcome = ({set, at}, method) => set.verdicts?.[bare(method)]?.[method === bare(method) ? "outcome" : "dial"]?.[at] ?? null;
  const role = ({set, at}, method) => set.decisions?.[bare(method)]?.role[at] ?? null;
  const band = (mu) => Math.min(4, [0.2, 0.4, 0.6, 0.8].filter((edge) => mu >= edge).length);
  const haystack = (entry) => {
    const {set, at} = entry;
    entry.text ??= [
      set.question[at], set.id[at], set.category[at], ...set.answers[at],
      ...Object.values(set.verdicts ?? {}).flatMap((verdict) => [verdict.response[at] ?? "", verdict.answer?.[at] ?? ""]),
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

  const asked = () => Object.fromEntries([...FILTERS, "method", "order"].map((name) => [name, field(name).value]));

  function filter() {
    const wanted = asked();
    shown = entries.filter((entry) => matches(entry, wanted));
    if (wanted.order !== "") {
      const sign = wanted.order.startsWith("-") ? -1 : 1;
      const name = wanted.order.replace("-", "");
      const value = ({set, at}) => (name === "p_refuse" ? set.verdicts?.[bare(wanted.method)] : set)?.[name]?.[at] ?? null;
      // Where there is no value the question comes last, whatever the direction.
      shown.sort((a, b) => {
        const [first, second] = [value(a), value(b)];
        return first === null || second === null ? (first === null) - (second === null) : sign * (first - second);
      });
    }
    page = 0;
    show();
  }

  const counted = (some, method) => {
    const counts = {correct: 0, refused: 0, wrong: 0};
    for (const entry of some) {
      const of = outcome(entry, method);
      if (of) counts[of] = (counts[of] ?? 0) + 1;
    }
    return Object.values(counts).some(Boolean)
      ? Object.entries(counts).map(([name, count]) => `${count} ${WORDS[name]}`).join(", ") : "";
  };

  /** What is found, and of every set that was answered how many are right, refused and wrong before and after. */
  function sums(method) {
    const head = element("div", "", `${shown.length.toLocaleString("en")} of ${entries.length.toLocaleString("en")} questions`);
    const bySet = new Map(runs.flatMap((run) => run.sets.map((set) => [set, []])));
    for (const entry of shown) bySet.get(entry.set).push(entry);
    const lines = [...bySet].flatMap(([set, some]) => {
      const [before, after] = [counted(some, "init_basic"), counted(some, method)];
      if (!before && !after) return [];
      const line = element("div", "of-set");
      line.append(element("bdi", "", runs.length > 1 ? `${some[0].run.name} · ${set.name}` : set.name), ` ${some.length.toLocaleString("en")}`
        + (before ? `; before: ${before}` : "") + (after ? `; ${shownAs(method)}: ${after}` : ""));
      return [line];
    });
    found.replaceChildren(head, ...lines);
  }

  const shownAs = (method) => field("method").querySelector(`option[value="${CSS.escape(method)}"]`)?.textContent ?? method;

  /** Where nothing is found: which filter alone is too narrow, and a way to take it away. */
  function hint() {
    none.hidden = shown.length > 0;
    if (shown.length) return;
    const wanted = asked();
    const narrow = FILTERS.filter((name) => wanted[name] !== "").flatMap((name) => {
      const count = entries.filter((entry) => matches(entry, {...wanted, [name]: ""})).length;
      return count ? [[name, count]] : [];
    });
    const [said, loosen] = none.children;
    said.textContent = narrow.length ? "No question passes all of these filters. Without one of them:"
      : "No question passes these filters, and taking one away is not enough.";
    const buttons = narrow.map(([name, count]) => {
      const button = element("button");
      button.type = "button";
      const value = field(name).selectedOptions?.[0].textContent ?? wanted[name];
      button.append(`without ${field(name).labels[0].firstChild.textContent.trim().toLowerCase()} “`, element("bdi", "", value),
        `”: ${count.toLocaleString("en")}`);
      button.addEventListener("click", () => {
        field(name).value = "";
        filter();
        field(name).focus();
      });
      return button;
    });
    const reset = element("button", "", "Show all");
    reset.type = "button";
    reset.addEventListener("click", () => {
      form.reset();
      field("search").focus();
    });
    loosen.replaceChildren(...buttons, reset);
  }

  function show() {
    const method = field("method").value;
    sums(method);
    hint();
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
    const dial = outcome(entry, bare(method) + DIAL);
    if (dial && dial !== after) chips.append(element("span", "", "dial"), verdictChip(dial));
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
  return element("span", `chip ${outcome === "failed" ? "" : WORDS[outcome]}`, `${MARKS[outcome]} ${WORDS[outcome]}`);
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

/** What a method says with its dial, p(refuse), and what it would say if it might not refuse; as far as it is known. */
function dialled(method, verdict, at, threshold) {
  const [chance, outcome, answer] = [verdict.p_refuse?.[at] ?? null, verdict.dial?.[at] ?? null, verdict.answer?.[at] ?? null];
  if (chance === null) return [];
  const parts = [element("bdi", "aside", outcome ? `${method} with the dial` : method)];
  if (outcome) parts.unshift(verdictChip(outcome));
  if (outcome && outcome !== "refused") parts.push(shownText(answer ?? verdict.response[at]));
  const cut = threshold > 1 ? "refuses nothing that it can answer" : `refuses from ${String(Number(threshold?.toPrecision(4)))} on`;
  const anyway = outcome === "refused" && chance < threshold ? "; it refuses even where it may not" : "";
  parts.push(element("span", "aside", `p(refuse) ${chance}${outcome ? `; ${cut}${anyway}` : ""}`));
  const hidden = [element("span", "aside", "if it may not refuse:"), shownText(answer ?? "")];
  return [parts, ...(answer && outcome !== "correct" && outcome !== "wrong" ? [hidden] : [])];
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
    made.append(block("Answers", verdicts.flatMap(([method, verdict]) => [
      [verdictChip(verdict.outcome[at]), element("bdi", "aside", method), shownText(verdict.response[at])],
      ...dialled(method, verdict, at, run.thresholds[method]),
    ]), "full"));
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
    made.append(block(`Known, but ${method} refuses it by greedy decoding; it was taught to refuse, nearest first`, of[set.id[at]].map(([id, cosine]) => {
      const place = train?.at.get(id);
      return [element("span", "count", number(cosine)), shownText(place === undefined ? id : train.question[place])];
    }), "full"));
  }
  return made;
}
