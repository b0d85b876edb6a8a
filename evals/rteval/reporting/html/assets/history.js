"use strict";
// Draws one chart a metric over the runs from the JSON in the page.
(() => {
  const figures = JSON.parse(document.getElementById("history-data").textContent);
  const root = document.documentElement;
  const color = (name) => getComputedStyle(root).getPropertyValue(`--${name}`).trim();
  const digits = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
  const shown = (value) => digits.format(value).replaceAll(",", "\u202f");
  const charts = [];

  function datasets(figure) {
    const [accent, fail, muted] = ["accent", "fail", "muted"].map(color);
    const of = (kinds) => figure.kinds.map((kind) => kinds[kind] ?? kinds[""]);
    return [
      ...figure.limits.map((data, index) => ({
        type: "line", label: index ? `gate ${index + 1}` : "gate", data, borderColor: fail, borderWidth: 2, pointRadius: data.length > 1 ? 0 : 14,
        pointBackgroundColor: fail, pointStyle: "line", pointHitRadius: 0, stepped: "middle", order: 3,
      })),
      {
        type: "line", label: figure.name, data: figure.values, borderColor: accent, borderWidth: 2, tension: 0, order: 1,
        pointRadius: of({ "": figure.values.length > 120 ? 2 : 4, missed: 6 }), pointHoverRadius: 7, clip: false,
        pointStyle: of({ "": "circle", missed: "crossRot", partial: "triangle", invalid: "rect", unlike: "circle" }),
        pointBorderColor: of({ "": accent, missed: fail, invalid: muted }), pointBackgroundColor: of({ "": accent, missed: fail, invalid: muted, unlike: "transparent" }),
        pointBorderWidth: of({ "": 1, missed: 2.5 }),
        // A line from one run to another says that they can be compared.
        segment: {
          borderColor: ({ p0DataIndex, p1DataIndex }) =>
            figure.unlike[p0DataIndex] || figure.unlike[p1DataIndex] ? "transparent" : undefined,
        },
      },
      {
        type: "bar", label: "95 % interval", data: figure.bounds, backgroundColor: `${accent}40`, borderWidth: 0,
        maxBarThickness: 12, barPercentage: 0.7, categoryPercentage: 1, grouped: false, minBarLength: 2, order: 2,
      },
    ];
  }

  function config(figure) {
    const ticks = { color: color("muted"), maxRotation: 0, autoSkipPadding: 14, padding: 5 };
    return {
      data: { labels: figure.days, datasets: datasets(figure) },
      options: {
        animation: false, responsive: true, maintainAspectRatio: false,
        devicePixelRatio: Math.max(2, window.devicePixelRatio || 1), // sharp on paper too
        layout: { padding: { top: 6, right: 8 } },
        interaction: { mode: "index", intersect: false },
        scales: {
          x: { type: "category", offset: true, grid: { display: false }, border: { color: color("line") }, ticks },
          y: {
            title: { display: true, text: figure.unit, color: color("muted"), font: { size: 12 } },
            grid: { color: color("line"), drawTicks: false }, border: { color: color("line") }, grace: "12%",
            beginAtZero: figure.unit === "%", ticks: { ...ticks, includeBounds: false, callback: (value) => shown(value) },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: {
            displayColors: false, filter: ({ dataset }) => dataset.order === 1,
            callbacks: { title: ([item]) => (item ? figure.titles[item.dataIndex] : ""), label: ({ dataIndex }) => figure.said[dataIndex] },
          },
        },
      },
    };
  }

  function repaint() {
    for (const { figure, chart } of charts) {
      const { data, options } = config(figure);
      chart.data = data;
      chart.options = options;
      chart.update("none");
    }
  }

  Chart.defaults.font.family = getComputedStyle(document.body).fontFamily;
  // Without scripts a plot would be an empty box: its words stand there instead.
  for (const box of document.querySelectorAll(".plot .canvas")) box.hidden = false;
  for (const note of document.querySelectorAll(".unscripted")) note.remove();
  const waiting = figures.map((figure) => () => {
    charts.push({ figure, chart: new Chart(document.getElementById(figure.id), config(figure)) });
  });
  // One chart a task, so that the page can be read while the later ones are drawn.
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
})();
