"use strict";
// Draws the plots and fills the table of turns from the JSON in the page. Texts enter the page only as text nodes.
(() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const root = document.documentElement;

  /* ---------------------------------------------------------------- plots */

  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const digits = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const number = { format: (value) => digits.format(value).replaceAll(",", "\u202f") };
  const SERIES = ["accent", "accent-2", "accent-3", "pass"];
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
  const INKS = { asked: "ink", master: "ink", others: "muted", missed: "fail" };
  const charts = [];

  function annotations(figure) {
    const upright = figure.kind === "histogram" || figure.kind === "curves";
    const [low, high] = figure.edges ? [figure.edges[0], figure.edges.at(-1)] : [0, 1];
    const entries = (figure.lines || []).flatMap((line, index) => {
      const gate = line.role === "gate";
      const ink = color(gate ? "fail" : "ink");
      const at = upright ? { xMin: line.at, xMax: line.at } : { yMin: line.at, yMax: line.at };
      // The words stand beside their line, on the side with more room, each a row lower than the one before.
      const left = upright && line.at > (low + high) / 2;
      const place = upright
        ? { xValue: line.at, yValue: ({ chart }) => chart.scales.y.max, position: { x: left ? "end" : "start", y: "start" }, yAdjust: index * 18 }
        : { xValue: ({ chart }) => chart.scales.x.max, yValue: line.at, position: { x: "end", y: "end" } };
      return [
        [`line${index}`, { type: "line", ...at, borderColor: ink, borderWidth: gate ? 2 : 1.5, borderDash: gate ? [] : [5, 4] }],
        [`words${index}`, {
          type: "label", ...place, content: line.label, color: ink, padding: { x: 5, y: 2 },
          backgroundColor: upright ? `${color("surface")}cc` : "transparent", font: { size: 11, weight: gate ? 600 : 400 },
        }],
      ];
    });
    if (figure.warmup !== undefined) {
      entries.push(["warmup", { type: "box", xMax: figure.warmup, backgroundColor: `${color("muted")}22`, borderWidth: 0, drawTime: "beforeDatasetsDraw" }]);
    }
    (figure.moments || []).forEach((moment, index) => {
      entries.push([`moment${index}`, { type: "line", xMin: moment.at, xMax: moment.at, borderColor: color("fail"), borderWidth: 1.5, borderDash: [3, 3] }]);
      entries.push([`moment-words${index}`, {
        type: "label", xValue: moment.at, yValue: ({ chart }) => chart.scales.y.max, position: { x: "start", y: "start" },
        yAdjust: (index % 8) * 16, content: moment.label, color: color("fail"), padding: { x: 5, y: 2 }, font: { size: 11, weight: 600 },
        backgroundColor: `${color("surface")}cc`,
      }]);
    });
    return Object.fromEntries(entries);
  }

  function datasets(figure) {
    if (figure.kind === "histogram") {
      return [{
        type: "bar", label: figure.name, data: figure.bars.map(([x, y]) => ({ x, y })), backgroundColor: `${color("accent")}b8`,
        barPercentage: 1, categoryPercentage: 0.96, grouped: false,
      }];
    }
    return figure.series.map((series, index) => {
      const failed = series.name === "not ok";
      const ink = color(failed ? "fail" : INKS[series.role] || SERIES[index % SERIES.length]);
      const points = series.points.map(([x, y, row]) => ({ x, y, row }));
      if (figure.kind === "scatter") {
        return {
          type: "scatter", label: series.name, data: points, borderColor: ink, backgroundColor: failed ? ink : `${ink}99`,
          pointStyle: failed ? "crossRot" : "circle", borderWidth: failed ? 2 : 0,
          pointRadius: failed ? 5 : points.length > 2000 ? 1.5 : 3, pointHoverRadius: 6, clip: false,
        };
      }
      return {
        type: "line", label: series.name, data: points, borderColor: ink, backgroundColor: ink, borderWidth: 2,
        borderDash: series.role === "asked" ? [7, 4] : series.stepped ? [] : DASHES[index % DASHES.length],
        pointRadius: points.length === 1 ? 3 : 0, pointHitRadius: 8, stepped: series.stepped ? "before" : false, tension: 0,
      };
    });
  }

  function axis(figure, which) {
    const upright = figure.kind === "histogram" || figure.kind === "curves";
    const lines = (figure.lines || []).map((line) => line.at);
    const wide = upright === (which === "x") && lines.length ? lines : [];
    const options = {
      type: "linear",
      title: { display: true, text: figure[which], color: color("muted"), font: { size: 12 } },
      grid: { color: color("line"), drawTicks: false, display: which === "y" },
      border: { color: color("line") },
      ticks: {
        color: color("muted"), maxRotation: 0, autoSkipPadding: 14, includeBounds: false, padding: 5,
        callback: (value) => number.format(value), ...(figure.y === "turns" && which === "y" ? { precision: 0 } : {}),
      },
    };
    if (which === "y") {
      options.beginAtZero = true;
      if (figure.kind === "histogram" && (figure.lines || []).length) options.grace = "22%";
      if (figure.grace) options.grace = figure.grace;
      if (wide.length) options.suggestedMax = Math.max(...wide) * 1.08;
      if (figure.y === "% of turns") options.max = 100;
    } else if (figure.kind === "lines") {
      const at = figure.series.flatMap((series) => series.points.map((point) => point[0]));
      options.min = Math.min(...at);
      options.max = Math.max(...at, options.min + 1);
    } else if (figure.range) {
      [options.min, options.max] = figure.range;
    } else if (figure.kind === "histogram") {
      const edges = figure.edges;
      const span = edges[edges.length - 1] - edges[0] || 1;
      options.offset = false;
      options.min = Math.min(edges[0], ...wide.map((at) => at - span * 0.02));
      options.max = Math.max(edges[edges.length - 1], ...wide.map((at) => at + span * 0.04));
    }
    return options;
  }

  function tooltip(figure) {
    const turns = data.turns.columns;
    return {
      displayColors: false,
      callbacks: {
        title: () => "",
        label: ({ raw, dataset, dataIndex }) => {
          if (figure.kind === "histogram") {
            const [from, to] = [figure.edges[dataIndex], figure.edges[dataIndex + 1]];
            return `${number.format(from)} to ${number.format(to)} ${figure.x === "ms" ? "ms" : "s"}: ${raw.y} ${figure.y}`;
          }
          if (figure.kind === "scatter" && raw.row !== undefined) {
            const row = tableRow(raw.row);
            const who = row < 0 ? "" : `${cell(turns.item, row)}, session ${cell(turns.session, row)}`;
            const what = row >= 0 && cell(turns.outcome, row) !== "ok" ? cell(turns.outcome, row) : `${number.format(raw.y)} ms`;
            return [`${what} at ${number.format(raw.x)} s`, who].filter(Boolean);
          }
          return `${dataset.label}: ${number.format(raw.y)} ${figure.y} at ${number.format(raw.x)} ${figure.x === "ms" ? "ms" : "s"}`;
        },
      },
    };
  }

  function config(figure) {
    return {
      data: { datasets: datasets(figure) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false, normalized: true, parsing: false,
        devicePixelRatio: Math.max(2, window.devicePixelRatio || 1), // sharp on paper too
        layout: { padding: { top: 6, right: 8 } },
        interaction: figure.kind === "scatter" ? { mode: "nearest", intersect: true } : { mode: "nearest", axis: "x", intersect: false },
        scales: { x: axis(figure, "x"), y: axis(figure, "y") },
        plugins: {
          legend: {
            display: (figure.series || []).length > 1, position: "bottom",
            labels: { color: color("ink"), usePointStyle: figure.kind === "scatter", boxWidth: 26, boxHeight: figure.kind === "scatter" ? 7 : 0 },
          },
          tooltip: tooltip(figure),
          annotation: { annotations: annotations(figure), clip: false },
        },
        onClick: (event, hits) => {
          if (figure.kind !== "scatter" || !hits.length) return;
          const hit = hits[0];
          reveal(figure.series[hit.datasetIndex].points[hit.index][2]);
        },
      },
    };
  }

  function drawPlots() {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    const waiting = Object.values(data.figures).flat().map((figure) => () => {
      charts.push({ figure, chart: new Chart(document.getElementById(figure.id), config(figure)) });
    });
    // One plot a task, so that the page can be read and scrolled while the later ones are drawn.
    const next = () => {
      const draw = waiting.shift();
      if (draw) {
        draw();
        setTimeout(next);
      } else {
        root.dataset.drawn = "";
      }
    };
    next();
    window.addEventListener("beforeprint", () => {
      root.dataset.print = "";
      while (waiting.length) waiting.shift()();
      repaint();
    });
    window.addEventListener("afterprint", () => {
      delete root.dataset.print;
      repaint();
    });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  }

  function repaint() {
    for (const { figure, chart } of charts) {
      const { data: fresh, options } = config(figure);
      chart.data = fresh;
      chart.options = options;
      chart.update("none");
    }
  }

  /* ---------------------------------------------------------------- table of turns */

  const PAGE = 50;
  const SHOWN = [
    ["at_s", "at (s)"], ["item", "item"], ["session", "session"], ["turn", "turn"], ["outcome", "outcome"], ["error_code", "code"],
    ["ttfa_ms", "ttfa ms"], ["v2v_ms", "v2v ms"], ["response_ms", "response ms"], ["endpoint_ms", "endpoint ms"],
    ["input_wer", "WER"], ["input_transcript", "transcript"], ["output_transcript", "answer"],
  ];
  const TEXTS = ["reference", "input_transcript", "output_transcript", "output_text"];
  const MOMENTS = [
    ["endpoint_ms", "speech stopped"], ["ttft_ms", "first text"], ["ttfa_ms", "first audio"], ["v2v_ms", "first sound"],
    ["input_transcript_ms", "caller's transcript"], ["response_ms", "response done"],
  ];
  const columns = data.turns.columns;
  const total = Math.max(0, ...Object.values(columns).map((column) => (column.codes || column).length));
  const state = { order: [], sort: null, down: false, page: 0, opened: new Set(), words: null };

  function cell(column, row) {
    if (!column) return null;
    if (!column.codes) return column[row];
    const code = column.codes[row];
    return code === null ? null : column.levels[code];
  }

  function isNumeric(column) {
    return !column.codes && typeof column.find((value) => value !== null) === "number";
  }

  function tableRow(turn) {
    return data.turns.rows === null ? turn : data.turns.rows.indexOf(turn);
  }

  function element(tag, text, attributes = {}) {
    const made = document.createElement(tag);
    if (text !== null && text !== undefined) made.textContent = text;
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    return made;
  }

  function shown(name, value) {
    if (value === null || value === undefined) return "–";
    if (typeof value !== "number") return value;
    if (name.endsWith("_wer") || name.endsWith("_cer")) return `${number.format(value * 100)} %`;
    if (name === "at_s") return value.toFixed(2);
    return name.endsWith("_ms") ? tenths.format(value).replaceAll(",", "\u202f") : number.format(value);
  }

  function haystack() {
    const named = [...TEXTS, "item", "session", "variant", "worker", "outcome", "failure_stage", "error_code", "error_message",
      "tags", "oddities", "conversation_id", "session_id", "item_id", "response_id", "language", "modality"];
    const wanted = [...named, ...Object.keys(columns).filter((name) => name.startsWith("meta_"))];
    const present = wanted.map((name) => columns[name]).filter(Boolean);
    state.words = Array.from({ length: total }, (_, row) =>
      present.map((column) => cell(column, row)).filter((value) => value !== null).join("\n").toLowerCase());
  }

  function select() {
    const outcome = document.getElementById("turn-outcome").value;
    const wanted = document.getElementById("turn-search").value.toLowerCase().split(/\s+/).filter(Boolean);
    if (wanted.length && !state.words) haystack();
    state.order = [];
    for (let row = 0; row < total; row += 1) {
      const ended = cell(columns.outcome, row);
      if (outcome === "!ok" ? ended === "ok" : outcome && ended !== outcome) continue;
      if (wanted.every((word) => state.words[row].includes(word))) state.order.push(row);
    }
    if (state.sort) {
      const column = columns[state.sort];
      const sign = state.down ? -1 : 1;
      state.order.sort((a, b) => {
        const [x, y] = [cell(column, a), cell(column, b)];
        if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1; // what was not measured comes last
        return sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || a - b;
      });
    }
  }

  function detail(row) {
    const line = element("tr", null, { class: "detail" });
    const box = element("td", null, { colspan: SHOWN.filter(([name]) => columns[name]).length });
    const moments = MOMENTS.map(([name, label]) => [cell(columns[name], row), label]).filter(([at]) => at !== null && at !== undefined);
    if (moments.length) {
      box.append(element("h4", "After the end of speech"));
      const list = element("ol");
      moments.sort((a, b) => a[0] - b[0]).forEach(([at, label]) => list.append(element("li", `${number.format(at)} ms ${label}`)));
      box.append(list);
    }
    const said = TEXTS.filter((name) => cell(columns[name], row) !== null && columns[name]);
    if (said.length) {
      box.append(element("h4", "Texts"));
      const list = element("dl", null, { class: "texts" });
      said.forEach((name) => list.append(element("dt", name), element("dd", cell(columns[name], row), { dir: "auto" })));
      box.append(list);
    }
    const rest = Object.keys(columns).filter((name) => !TEXTS.includes(name) && cell(columns[name], row) !== null);
    if (rest.length) {
      box.append(element("h4", "Columns"));
      const list = element("dl", null, { class: "pairs" });
      rest.forEach((name) => {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", shown(name, cell(columns[name], row)), { dir: "auto" }));
        list.append(pair);
      });
      box.append(list);
    }
    line.append(box);
    return line;
  }

  function rowOf(row) {
    const ended = cell(columns.outcome, row);
    const line = element("tr", null, ended === "ok" ? {} : { class: "bad" });
    line.dataset.row = row;
    for (const [name] of SHOWN) {
      if (!columns[name]) continue;
      const value = cell(columns[name], row);
      const words = TEXTS.includes(name);
      const box = element("td", name === "item" ? null : shown(name, value), {
        class: isNumeric(columns[name]) ? "n" : words ? "words" : "", ...(words ? { dir: "auto" } : {}),
      });
      if (name === "item") {
        const open = element("button", value === null ? "–" : value, { type: "button", class: "open", "aria-expanded": state.opened.has(row) });
        open.addEventListener("click", () => {
          if (!state.opened.delete(row)) state.opened.add(row);
          render();
          const again = document.querySelector(`#turn-table tr[data-row="${row}"] .open`);
          if (again) again.focus();
        });
        box.append(open);
      }
      line.append(box);
    }
    return line;
  }

  function render() {
    const pages = Math.max(1, Math.ceil(state.order.length / PAGE));
    state.page = Math.min(state.page, pages - 1);
    const body = document.createDocumentFragment();
    for (const row of state.order.slice(state.page * PAGE, (state.page + 1) * PAGE)) {
      body.append(rowOf(row));
      if (state.opened.has(row)) body.append(detail(row));
    }
    document.querySelector("#turn-table tbody").replaceChildren(body);
    for (const head of document.querySelectorAll("#turn-table thead th")) {
      const sorted = head.dataset.name === state.sort;
      head.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
    }
    document.getElementById("turn-count").textContent =
      state.order.length === total ? `${number.format(total)} turns` : `${number.format(state.order.length)} of ${number.format(total)} turns`;
    document.getElementById("turn-page").textContent = `page ${state.page + 1} of ${pages}`;
    document.getElementById("turn-previous").disabled = state.page === 0;
    document.getElementById("turn-next").disabled = state.page >= pages - 1;
    document.getElementById("turn-pages").hidden = pages === 1;
  }

  function refresh() {
    state.page = 0;
    select();
    render();
  }

  function reveal(turn) {
    const row = tableRow(turn);
    if (row < 0) return;
    document.getElementById("turn-search").value = "";
    document.getElementById("turn-outcome").value = "";
    select();
    state.page = Math.floor(state.order.indexOf(row) / PAGE);
    state.opened.add(row);
    render();
    const line = document.querySelector(`#turn-table tr[data-row="${row}"]`);
    line.scrollIntoView({ block: "center" });
    line.querySelector(".open").focus();
  }

  function makeTable() {
    const table = document.getElementById("turn-table");
    if (!table) return;
    const head = element("tr");
    for (const [name, label] of SHOWN) {
      if (!columns[name]) continue;
      const numeric = isNumeric(columns[name]);
      const box = element("th", null, { scope: "col", class: numeric ? "n" : "" });
      box.dataset.name = name;
      const button = element("button", label, { type: "button" });
      button.addEventListener("click", () => {
        state.down = state.sort === name ? !state.down : numeric && name !== "at_s" && name !== "turn";
        state.sort = name;
        refresh();
      });
      box.append(button);
      head.append(box);
    }
    table.tHead.append(head);
    const choice = document.getElementById("turn-outcome");
    const outcomes = columns.outcome ? columns.outcome.levels || [...new Set(columns.outcome)] : [];
    outcomes.forEach((name) => choice.append(element("option", name, { value: name })));
    choice.addEventListener("change", refresh);
    document.getElementById("turn-search").addEventListener("input", refresh);
    document.getElementById("turn-filter").addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("turn-previous").addEventListener("click", () => { state.page -= 1; render(); });
    document.getElementById("turn-next").addEventListener("click", () => { state.page += 1; render(); });
    document.getElementById("turn-filter").hidden = false;
    refresh();
  }

  makeTable();
  drawPlots();
})();
