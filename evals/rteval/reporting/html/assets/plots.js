"use strict";
// Draws the figures of the JSON in the page, and keeps every plot in the colours of the screen or of the paper.
// What it leaves in "rteval" is for the page's other scripts.
const rteval = (() => {
  const data = JSON.parse(document.getElementById("report-data").textContent);
  const root = document.documentElement;

  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const digits = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const tenths = new Intl.NumberFormat("en", { minimumFractionDigits: 1, maximumFractionDigits: 1 });
  const number = { format: (value) => digits.format(value).replaceAll(",", "\u202f") };
  const SERIES = ["accent", "accent-2", "accent-3", "pass", "stage-3", "warn"];
  const SHAPES = ["circle", "triangle", "rect", "rectRot"];
  const DASHES = [[], [7, 4], [2, 3], [9, 3, 2, 3]];
  const INKS = { asked: "ink", master: "ink", others: "muted", missed: "fail", failed: "fail", cloud: "muted" };
  // What is counted has no halves.
  const COUNTS = ["turns", "sessions", "answers"];
  const plots = new Set();
  // What another script knows of the points of a scatter: a turn's words, and how to show it.
  const picked = { words: () => [], show: () => {} };

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
    if (figure.kind === "stack") entries.push(...shares(figure));
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

  // The number in each part of a bar that is wide enough for it, and the sum behind each bar.
  function shares(figure) {
    const widest = Math.max(...figure.rows.map((_, row) => sum(figure, row)));
    return figure.rows.flatMap(([, total], row) => {
      let end = 0;
      const parts = figure.series.map((series, index) => {
        const value = series.values[row] || 0;
        end += Math.max(0, value);
        return [`part${row}-${index}`, {
          type: "label", xValue: end - value / 2, yValue: row, content: number.format(figure.unit ? Math.round(value) : value),
          color: color(`${series.role}-ink`), font: { size: 11 }, padding: 0,
          display: ({ chart }) => chart.width * (value / widest) > 44 * 1.5,
        }];
      });
      return [...parts, [`total${row}`, {
        type: "label", xValue: end, yValue: row, content: total, color: color("ink"), font: { size: 12, weight: 600 },
        position: { x: "start", y: "center" }, padding: { left: 6 },
      }]];
    });
  }

  function sum(figure, row) {
    return figure.series.reduce((total, series) => total + Math.max(0, series.values[row] || 0), 0);
  }

  function datasets(figure) {
    if (figure.kind === "stack") {
      return figure.series.map((series) => ({
        type: "bar", label: series.name, data: series.values.map((x, y) => ({ x: x || 0, y })), backgroundColor: color(series.role),
        borderColor: color("surface"), borderWidth: { right: 1 }, barPercentage: 0.85, categoryPercentage: 0.9, maxBarThickness: 30,
      }));
    }
    if (figure.kind === "histogram") {
      return [{
        type: "bar", label: figure.name, data: figure.bars.map(([x, y]) => ({ x, y })), backgroundColor: `${color("accent")}b8`,
        barPercentage: 1, categoryPercentage: 0.96, grouped: false,
      }];
    }
    return figure.series.map((series, place) => {
      const index = series.colour === undefined ? place : series.colour;
      const failed = series.role === "failed";
      const ink = color(failed ? "fail" : INKS[series.role] || SERIES[index % SERIES.length]);
      const points = series.points.map(([x, y, row]) => ({ x, y, row }));
      if (figure.kind === "scatter" && !series.joined) {
        return {
          type: "scatter", label: series.name, data: points, borderColor: ink, backgroundColor: failed ? ink : `${ink}99`,
          pointStyle: failed ? "crossRot" : series.role === "cloud" ? "circle" : SHAPES[index % SHAPES.length], borderWidth: failed ? 2 : 0,
          pointRadius: failed ? 5 : points.length > 2000 ? 1.5 : 3, pointHoverRadius: 6, clip: false,
        };
      }
      if (series.joined) {
        return {
          type: "line", label: series.name, data: points, borderColor: ink, backgroundColor: ink, borderWidth: 2, pointRadius: 4,
          pointStyle: SHAPES[index % SHAPES.length], borderDash: DASHES[index % DASHES.length], tension: 0, clip: false,
        };
      }
      return {
        type: "line", label: series.name, data: points, borderColor: ink, backgroundColor: ink, borderWidth: 2,
        borderDash: series.role === "asked" ? [7, 4] : series.stepped && figure.kind === "lines" ? [] : DASHES[index % DASHES.length],
        pointRadius: points.length === 1 ? 3 : 0, pointHitRadius: 8, stepped: series.stepped ? "before" : false, tension: 0,
      };
    });
  }

  function axis(figure, which) {
    if (figure.kind === "stack") return stackAxis(figure, which);
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
        callback: (value) => number.format(value), ...(which === "y" && COUNTS.includes(figure.y) ? { precision: 0 } : {}),
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

  // An axis of rows: one tick for each, at 0, 1, 2 ...
  function whole(rows) {
    return (scale) => { scale.ticks = Array.from({ length: rows }, (_, value) => ({ value })); };
  }

  function stackAxis(figure, which) {
    const plain = { stacked: true, border: { color: color("line") }, ticks: { color: color("muted"), padding: 5 } };
    if (which === "y") {
      return {
        ...plain, type: "linear", reverse: true, min: -0.5, max: figure.rows.length - 0.5, grid: { display: false },
        afterBuildTicks: whole(figure.rows.length),
        // On a small screen the words would leave no room for the bars: then they stand on two lines.
        ticks: {
          ...plain.ticks, autoSkip: false, color: color("ink"),
          callback: (value) => (figure.rows[value] ? (innerWidth < 600 ? figure.rows[value][0].split(/[,:] /) : figure.rows[value][0]) : ""),
        },
      };
    }
    const widest = Math.max(...figure.rows.map((_, row) => sum(figure, row)));
    return {
      ...plain, type: "linear", max: undefined, suggestedMax: widest * (innerWidth < 600 ? 1.35 : 1.12),
      title: { display: true, text: figure.x, color: color("muted"), font: { size: 12 } },
      grid: { color: color("line"), drawTicks: false },
      ticks: { ...plain.ticks, maxRotation: 0, autoSkipPadding: 14, includeBounds: false, callback: (value) => number.format(value), ...(figure.unit ? {} : { precision: 0 }) },
    };
  }

  function tooltip(figure) {
    return {
      displayColors: false,
      callbacks: {
        title: () => "",
        label: ({ raw, dataset, dataIndex }) => {
          if (figure.kind === "histogram") {
            const [from, to] = [figure.edges[dataIndex], figure.edges[dataIndex + 1]];
            return `${number.format(from)} to ${number.format(to)} ${figure.x === "ms" ? "ms" : "s"}: ${raw.y} ${figure.y}`;
          }
          if (figure.kind === "stack") return `${dataset.label}: ${number.format(raw.x)} ${figure.unit}`;
          if (figure.kind === "scatter" && raw.row !== undefined) {
            const place = figure.x === "sessions open" ? `${number.format(raw.x)} sessions` : `${number.format(raw.x)} s`;
            return [`${number.format(raw.y)} ms at ${place}`, ...picked.words(raw.row)];
          }
          if (figure.x === "sessions open") return `${dataset.label}: ${number.format(raw.y)} ms at ${number.format(raw.x)} sessions`;
          return `${dataset.label}: ${number.format(raw.y)} ${figure.y} at ${number.format(raw.x)} ${figure.x === "ms" ? "ms" : "s"}`;
        },
      },
    };
  }

  function config(figure) {
    const scatter = figure.kind === "scatter";
    const stack = figure.kind === "stack";
    return {
      data: { datasets: datasets(figure) },
      options: {
        ...common(), ...(stack ? { indexAxis: "y" } : {}),
        interaction: scatter || stack ? { mode: "nearest", intersect: true } : { mode: "nearest", axis: "x", intersect: false },
        scales: { x: axis(figure, "x"), y: axis(figure, "y") },
        plugins: {
          legend: {
            display: stack || (figure.series || []).length > 1, position: "bottom",
            labels: {
              filter: (item) => !(figure.series || [])[item.datasetIndex]?.quiet,
              color: color("ink"), usePointStyle: scatter, boxWidth: stack ? 14 : 26, boxHeight: scatter ? 7 : stack ? 12 : 0,
            },
          },
          tooltip: tooltip(figure),
          annotation: { annotations: annotations(figure), clip: false },
        },
        onClick: (event, hits) => {
          if (!scatter || !hits.length) return;
          const point = figure.series[hits[0].datasetIndex].points[hits[0].index];
          if (point[2] !== undefined) picked.show(point[2]);
        },
      },
    };
  }

  function common() {
    return {
      animation: false, responsive: true, maintainAspectRatio: false, normalized: true, parsing: false,
      devicePixelRatio: Math.max(2, window.devicePixelRatio || 1), // sharp on paper too
      layout: { padding: { top: 6, right: 8 } },
    };
  }

  // Draws a plot; "make" gives its configuration anew when the colours change.
  function draw(canvas, make) {
    const plot = { chart: new Chart(canvas, make()), make };
    plots.add(plot);
    return plot;
  }

  function drop(plot) {
    plot.chart.destroy();
    plots.delete(plot);
  }

  function drawPlots() {
    Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
    const waiting = Object.values(data.figures).flat().map((figure) => () => {
      draw(document.getElementById(figure.id), () => config(figure));
    });
    // One plot a task, so that the page can be read and scrolled while the later ones are drawn.
    const next = () => {
      const made = waiting.shift();
      if (!made) {
        root.dataset.drawn = "";
        return;
      }
      setTimeout(next); // also when this one cannot be drawn
      made();
    };
    next();
    window.addEventListener("beforeprint", () => {
      root.dataset.print = "";
      for (const group of document.querySelectorAll("details.group")) group.open = true;
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
    for (const { chart, make } of plots) {
      const { data: fresh, options } = make();
      chart.data = fresh;
      chart.options = options;
      chart.update("none");
    }
  }

  // Without scripts a plot would be an empty box: its words stand there instead.
  for (const box of document.querySelectorAll(".plot .canvas")) box.hidden = false;
  for (const note of document.querySelectorAll(".unscripted")) note.remove();
  // The other scripts of the page come first: they fill what is read before it is looked at.
  setTimeout(drawPlots);
  return { data, color, common, draw, drop, number, picked, tenths, whole };
})();
