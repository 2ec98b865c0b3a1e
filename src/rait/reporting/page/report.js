// Puts a report together in the browser: theme, question data, charts, question browser.
"use strict";

(() => {
  const PAIRS = 6;
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const remembered = () => {
    try {
      return localStorage.getItem("rait-theme");
    } catch {
      return null;  // a browser may keep nothing for local files
    }
  };
  const dark = () => root.dataset.theme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  button.hidden = false;
  label();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
    try {
      localStorage.setItem("rait-theme", root.dataset.theme);
    } catch {
      // then only this once
    }
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  addEventListener("scroll", () => { tip.hidden = true; }, {passive: true});

  async function unpacked() {
    const bytes = Uint8Array.from(atob(JSON.parse(document.getElementById("data").textContent)), (char) => char.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const {runs} = JSON.parse(await new Response(stream).text());
    for (const run of runs) for (const set of run.sets) set.at = new Map(set.id.map((id, place) => [id, place]));
    return runs;
  }

  /** The pairs that are most alike, of every strategy; the map of one, and the choice of another. */
  async function conflictMap(box, run, open) {
    const plot = box.querySelector('.plot[data-chart^="map-"]');
    const select = box.querySelector("[data-map]");
    const train = run.sets.find((set) => set.decisions);
    const strategy = () => (select ? select.value : Object.keys(run.maps)[0]);
    for (const pairs of box.querySelectorAll(".pairs")) {
      const all = run.maps[pairs.dataset.strategy]?.pairs ?? [];
      const lines = !train ? [] : all.flatMap(([idk, vanilla, cosine]) => {
        const [first, second] = [train.at.get(idk), train.at.get(vanilla)];
        if (first === undefined || second === undefined) return [];
        const line = element("li");
        line.append(shownText(train.question[first]), element("small", "", " refused · "), shownText(train.question[second]),
          element("small", "", ` answered · ${number(cosine)}`));
        return [line];
      }).slice(0, PAIRS);
      pairs.querySelector("small").textContent = lines.length === all.length ? "" : `${lines.length} of ${all.length} pairs`;
      pairs.querySelector("ol").replaceChildren(...lines);
    }
    if (!plot) return;
    const view = await draw(plot, run, {map: mapRows(run, strategy())}, open);
    select.addEventListener("change", async () => {
      await view.data("map", mapRows(run, strategy())).runAsync();
    });
  }

  async function start() {
    const plots = [...document.querySelectorAll(".plot")];
    const named = (plot) => /^(flow|map)-/.test(plot.dataset.chart);
    let runs = [];
    let open = null;
    try {
      runs = await unpacked();
      open = browse(runs);
    } catch (error) {
      document.getElementById("found").textContent = `The questions cannot be shown: this browser is too old for them (${error.message}).`;
    }
    for (const plot of plots.filter((each) => !named(each))) await draw(plot, runs[Number(plot.dataset.run)]);
    for (const plot of plots.filter((each) => each.dataset.chart.startsWith("flow-"))) {
      const of = Number(plot.dataset.run);
      if (runs[of]) await draw(plot, runs[of], {flow: flowRows(runs[of])}, (id) => open(of, "train", id));
    }
    for (const box of document.querySelectorAll(".map")) {
      const of = Number(box.dataset.run);
      if (runs[of]) await conflictMap(box, runs[of], (id) => open(of, "train", id));
    }
    root.dataset.ready = "yes";
  }
  start();
})();
