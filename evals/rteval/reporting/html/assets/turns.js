"use strict";
// The table of turns: filters, sorts and pages; and one turn at a time: what happened when, its audio and its words.
// Texts enter the page only as text nodes.
(() => {
  const { data, color, common, draw, drop, number, picked, tenths, whole } = rteval;
  const PAGE = 50;
  const SHOWN = [
    ["at_s", "at (s)"], ["item", "item"], ["variant", "variant"], ["session", "session"], ["turn", "turn"], ["outcome", "outcome"],
    ["error_code", "code"], ["ttfa_ms", "ttfa ms"], ["v2v_ms", "v2v ms"], ["response_ms", "response ms"], ["endpoint_ms", "endpoint ms"],
    ["input_wer", "WER"], ["input_transcript", "transcript"], ["output_transcript", "answer"],
  ];
  const TEXTS = ["reference", "input_transcript", "output_transcript", "output_text"];
  // Columns that are drawn and not read.
  const DRAWN = ["answer", "audio_deltas_at", "text_deltas_at", "spoke"];
  const MOMENTS = [
    ["t_due", "due"], ["t_started", "turn began"], ["endpoint_ms", "speech stopped"], ["t_committed", "audio committed"],
    ["t_create", "response.create written"], ["t_response_created", "response.created"], ["ttft_ms", "first text"],
    ["ttfa_ms", "first audio"], ["v2v_ms", "first sound"], ["t_last_audio", "last audio"],
    ["input_transcript_ms", "caller's transcript"], ["response_ms", "response.done"],
  ];
  const columns = data.turns.columns;
  const total = data.turns.rows === null ? data.turns.total : data.turns.rows.length;
  const state = { order: [], sort: null, down: false, page: 0, opened: new Set(), words: null, plots: [] };

  function cell(name, row) {
    const column = columns[name];
    if (!column) return null;
    if (!column.levels) return column[row];
    if (!column.codes) return column.levels[0];
    const code = column.codes[row];
    return code === null ? null : column.levels[code];
  }

  function isNumeric(name) {
    const column = columns[name];
    return !column.codes && typeof (column.levels || column).find((value) => value !== null) === "number";
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
    return name.endsWith("_ms") || name.startsWith("t_") ? tenths.format(value).replaceAll(",", "\u202f") : number.format(value);
  }

  /* ---------------------------------------------------------------- one turn: a picture of what happened when */

  const DIGIT = new Map([..."ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"].map((digit, value) => [digit, value]));
  const LANES = ["events", "caller", "answer", "audio deltas", "text deltas"];
  const [EVENTS, CALLER, ANSWER, AUDIO, WORDS] = LANES.map((_, index) => index);

  // Arrivals are written as gaps in whole steps, five bits a digit, the lowest first; the first gap has a sign.
  function arrivals(text) {
    const found = [];
    let [at, value, shift] = [0, 0, 0];
    for (const digit of text || "") {
      const bits = DIGIT.get(digit);
      value += (bits & 31) * 2 ** shift;
      shift += 5;
      if (bits & 32) continue;
      at += found.length ? value : value % 2 ? -(value - 1) / 2 : value / 2;
      found.push(at * data.turns.step_ms);
      [value, shift] = [0, 0];
    }
    return found;
  }

  function moments(row) {
    const found = MOMENTS.map(([name, label]) => [cell(name, row), label]).filter(([at]) => at !== null && at !== undefined);
    if (cell("spoke", row)) found.push([0, cell("modality", row) === "text" ? "prompt sent" : "end of speech"]);
    return found.sort((a, b) => a[0] - b[0]);
  }

  // Where the audio of both sides lies on the picture's axis, and the outline of it where it was kept.
  function voices(row) {
    const question = (data.questions || {})[cell("item", row)];
    const [speech, answered, length, outline] = ["speech_ms", "ttfa_ms", "output_audio_ms", "answer"].map((name) => cell(name, row));
    const found = [];
    if (cell("spoke", row) && cell("modality", row) !== "text") {
      if (question) found.push({ lane: CALLER, from: -question.speech_end_s * 1000, length: question.seconds * 1000, outline: question.outline, file: question.file, words: "The caller" });
      else if (speech !== null) found.push({ lane: CALLER, from: -speech, length: speech });
    }
    if (answered !== null && length !== null) {
      const file = outline === null ? null : `audio/${encodeURIComponent(`${cell("session", row)}-${cell("turn", row)}.wav`)}`;
      found.push({ lane: ANSWER, from: answered, length, outline, file, words: "The answer" });
    }
    return found;
  }

  function band({ lane, from, length, outline }) {
    const levels = outline ? [...outline].map((digit) => DIGIT.get(digit) / 63) : [1, 1];
    const height = outline ? 0.46 : 0.2;
    const step = outline ? length / levels.length : length;
    const side = (sign) => levels.map((level, index) => ({ x: from + (outline ? index + 0.5 : index) * step, y: lane - sign * Math.max(level, 0.03) * height }));
    const ink = color(lane === CALLER ? "accent-2" : "accent");
    const base = { type: "line", pointRadius: 0, pointHitRadius: 0, borderWidth: 0, backgroundColor: `${ink}b8`, tension: 0 };
    return [{ ...base, data: side(1), fill: "+1" }, { ...base, data: side(-1), fill: false }];
  }

  // Moments that would stand on one another share a mark: "3–5".
  function marks(found, from, span) {
    const groups = [];
    found.forEach(([at], index) => {
      const last = groups.at(-1);
      if (at < from) return;
      if (last && at - last.at < span / (innerWidth < 600 ? 7 : 26)) last.to = index + 1;
      else groups.push({ at, from: index + 1, to: index + 1 });
    });
    return groups;
  }

  function picture(row, heads) {
    const found = moments(row);
    const both = voices(row);
    const deltas = [[AUDIO, arrivals(cell("audio_deltas_at", row)), "accent"], [WORDS, arrivals(cell("text_deltas_at", row)), "accent-3"]];
    // When a turn was due says little of it when that was long before: the list has it.
    const all = [...found.filter(([, label]) => label !== "due").map(([at]) => at), ...both.flatMap(({ from, length }) => [from, from + length]), ...deltas.flatMap(([, at]) => at)];
    const [min, max] = [Math.min(...all), Math.max(...all)];
    const room = Math.max(max - min, 1) * (innerWidth < 600 ? 0.08 : 0.02);
    const groups = marks(found, min - room, max - min);
    const used = LANES.filter((_, lane) => lane <= EVENTS || both.some((one) => one.lane === lane) || deltas.some(([of, at]) => of === lane && at.length));
    const place = (lane) => used.indexOf(LANES[lane]);
    const annotations = Object.fromEntries([
      ...groups.flatMap(({ at, from, to }, index) => [
        [`line${index}`, { type: "line", xMin: at, xMax: at, borderColor: `${color("muted")}90`, borderWidth: 1, borderDash: [3, 3], drawTime: "beforeDatasetsDraw" }],
        [`mark${index}`, {
          type: "label", xValue: at, yValue: place(EVENTS), content: from === to ? `${from}` : `${from}–${to}`, color: color("surface"),
          backgroundColor: color("ink"), borderRadius: 8, padding: { x: 5, y: 2 }, font: { size: 11, weight: 600 },
        }],
      ]),
      ...heads.map(({ at, lane }, index) => [`head${index}`, {
        type: "line", xMin: at, xMax: at, yMin: place(lane) - 0.5, yMax: place(lane) + 0.5, borderColor: color("fail"), borderWidth: 2, display: at !== null,
      }]),
    ]);
    return {
      data: {
        datasets: [
          ...both.flatMap((one) => band({ ...one, lane: one.lane }).map((set) => ({ ...set, data: set.data.map(({ x, y }) => ({ x, y: y - one.lane + place(one.lane) })) }))),
          ...deltas.filter(([, at]) => at.length).map(([lane, at, ink]) => ({
            type: "scatter", data: at.map((x) => ({ x, y: place(lane) })), pointStyle: "line", rotation: 90, pointRotation: 90, radius: 7, hoverRadius: 9,
            borderColor: color(ink), borderWidth: 1.2, label: LANES[lane], clip: false,
          })),
        ],
      },
      options: {
        ...common(), layout: { padding: { top: 2, right: 14 } },
        interaction: { mode: "nearest", intersect: true },
        scales: {
          x: {
            type: "linear", min: min - room, max: max + room, title: { display: true, text: cell("spoke", row) ? "ms after the end of speech" : "ms", color: color("muted"), font: { size: 12 } },
            grid: { color: color("line"), drawTicks: false }, border: { color: color("line") },
            ticks: { color: color("muted"), maxRotation: 0, autoSkipPadding: 14, includeBounds: false, padding: 5, callback: (value) => number.format(value) },
          },
          y: {
            type: "linear", reverse: true, min: -0.6, max: used.length - 0.4, grid: { display: false }, border: { display: false }, afterBuildTicks: whole(used.length),
            ticks: { color: color("ink"), autoSkip: false, callback: (value) => used[value] || "" },
          },
        },
        plugins: {
          legend: { display: false },
          tooltip: { displayColors: false, filter: ({ dataset }) => dataset.type === "scatter", callbacks: { title: () => "", label: ({ raw, dataset }) => `${dataset.label.slice(0, -1)} at ${number.format(raw.x)} ms` } },
          annotation: { annotations, clip: false },
        },
      },
    };
  }

  // Players move a line over the picture, and a click on the picture moves the player.
  function players(row, box) {
    const able = voices(row).filter(({ file }) => file);
    const heads = able.map(({ lane, from }) => ({ at: null, lane, from }));
    const list = element("div", null, { class: "players" });
    const tags = able.map(({ file, words }, index) => {
      const frame = element("figure");
      const audio = element("audio", null, { controls: "", preload: "none", src: file, "aria-label": words });
      const path = element("a", decodeURIComponent(file), { href: file });
      const caption = element("figcaption", `${words} `);
      caption.append(path);
      audio.addEventListener("timeupdate", () => {
        heads[index].at = heads[index].from + audio.currentTime * 1000;
        const plot = state.plots.find((one) => one.row === row);
        if (!plot) return;
        Object.assign(plot.chart.options.plugins.annotation.annotations[`head${index}`], { xMin: heads[index].at, xMax: heads[index].at, display: true });
        plot.chart.update("none");
      });
      audio.addEventListener("error", () => { caption.replaceChildren(`${words}: ${decodeURIComponent(file)} is not beside this page.`); });
      audio.addEventListener("play", () => tags.forEach((other) => { if (other !== audio) other.pause(); }));
      frame.append(caption, audio);
      list.append(frame);
      return audio;
    });
    if (tags.length) box.append(list);
    return { heads, seek: (event, chart) => {
      const at = chart.scales.x.getValueForPixel(event.x);
      const index = able.findIndex(({ from, length }) => at >= from && at <= from + length);
      if (index >= 0) tags[index].currentTime = (at - able[index].from) / 1000;
    } };
  }

  function story(row, box) {
    const found = moments(row);
    if (!found.length) return null;
    box.append(element("h4", cell("spoke", row) ? "What happened, in ms after the end of speech" : "What happened, in ms after the start"));
    const frame = element("div", null, { class: "timeline" });
    const label = found.map(([at, words]) => `${words} ${number.format(at)} ms`).join(", ");
    const canvas = element("canvas", null, { role: "img", "aria-label": `Timeline: ${label}` });
    frame.append(canvas);
    box.append(frame);
    const { heads, seek } = players(row, box);
    const list = element("ol", null, { class: "moments" });
    found.forEach(([at, words]) => {
      const line = element("li", words);
      line.prepend(element("b", number.format(at)), " ");
      list.append(line);
    });
    box.append(list);
    return () => {
      const plot = draw(canvas, () => {
        const made = picture(row, heads);
        made.options.onClick = (event, _, chart) => seek(event, chart);
        return made;
      });
      plot.row = row;
      state.plots.push(plot);
    };
  }

  function detail(row, later) {
    const line = element("tr", null, { class: "detail" });
    const box = element("td", null, { colspan: SHOWN.filter(([name]) => columns[name]).length });
    const inner = element("div", null, { class: "inner" });
    later.push(story(row, inner));
    const said = TEXTS.filter((name) => cell(name, row) !== null && columns[name]);
    if (said.length) {
      inner.append(element("h4", "Texts"));
      const list = element("dl", null, { class: "texts" });
      said.forEach((name) => list.append(element("dt", name), element("dd", cell(name, row), { dir: "auto" })));
      inner.append(list);
    }
    const rest = Object.keys(columns).filter((name) => !TEXTS.includes(name) && !DRAWN.includes(name) && !name.startsWith("t_") && cell(name, row) !== null);
    if (rest.length) {
      inner.append(element("h4", "Columns"));
      const list = element("dl", null, { class: "pairs" });
      rest.forEach((name) => {
        const pair = element("div");
        pair.append(element("dt", name), element("dd", shown(name, cell(name, row)), { dir: "auto" }));
        list.append(pair);
      });
      inner.append(list);
    }
    box.append(inner);
    line.append(box);
    return line;
  }

  /* ---------------------------------------------------------------- which turns, in which order */

  const COMPARE = {
    "<": (a, b) => a < b, "<=": (a, b) => a <= b, ">": (a, b) => a > b, ">=": (a, b) => a >= b, "=": (a, b) => a === b, "!=": (a, b) => a !== b,
  };

  function haystack() {
    const named = [...TEXTS, "item", "session", "variant", "worker", "outcome", "failure_stage", "error_code", "error_message",
      "tags", "oddities", "conversation_id", "session_id", "item_id", "response_id", "language", "modality"];
    const wanted = [...named, ...Object.keys(columns).filter((name) => name.startsWith("meta_"))].filter((name) => columns[name]);
    state.words = Array.from({ length: total }, (_, row) =>
      wanted.map((name) => cell(name, row)).filter((value) => value !== null).join("\n").toLowerCase());
  }

  // A test of one row for each word; "ttfa_ms > 1200" compares, and what was not measured fails every comparison.
  function tests(text) {
    const parts = text.replace(/\s*(<=|>=|!=|<|>|=)\s*/g, "$1").split(/\s+/).filter(Boolean);
    return parts.map((part) => {
      const match = /^(\w+)(<=|>=|!=|<|>|=)(.+)$/.exec(part);
      if (match && columns[match[1]]) {
        const [, name, sign, given] = match;
        const wanted = isNumeric(name) ? Number(given) : given.toLowerCase();
        return (row) => {
          const value = cell(name, row);
          return value !== null && COMPARE[sign](typeof value === "number" ? value : String(value).toLowerCase(), wanted);
        };
      }
      const word = part.toLowerCase();
      return (row) => {
        if (!state.words) haystack();
        return state.words[row].includes(word);
      };
    });
  }

  function chosen(id) {
    return document.getElementById(id).value;
  }

  function select() {
    const [outcome, variant, tag] = ["turn-outcome", "turn-variant", "turn-tag"].map(chosen);
    const wanted = tests(chosen("turn-search"));
    if (outcome === "!ok") wanted.unshift((row) => cell("outcome", row) !== "ok");
    else if (outcome) wanted.unshift((row) => cell("outcome", row) === outcome);
    if (variant) wanted.unshift((row) => cell("variant", row) === variant);
    if (tag) wanted.unshift((row) => (cell("tags", row) || "").split(" ").includes(tag));
    state.order = [];
    for (let row = 0; row < total; row += 1) if (wanted.every((test) => test(row))) state.order.push(row);
    if (state.sort) {
      const sign = state.down ? -1 : 1;
      state.order.sort((a, b) => {
        const [x, y] = [cell(state.sort, a), cell(state.sort, b)];
        if (x === null || y === null) return x === y ? a - b : x === null ? 1 : -1; // what was not measured comes last
        return sign * (typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0) || a - b;
      });
    }
  }

  function toggle(row) {
    if (!state.opened.delete(row)) state.opened.add(row);
    render();
    const again = document.querySelector(`#turn-table tr[data-row="${row}"] .open`);
    if (again) again.focus();
  }

  function rowOf(row) {
    const ended = cell("outcome", row);
    const line = element("tr", null, ended === "ok" ? {} : { class: "bad" });
    line.dataset.row = row;
    for (const [name] of SHOWN) {
      if (!columns[name]) continue;
      const value = cell(name, row);
      const words = TEXTS.includes(name);
      const box = element("td", name === "item" ? null : shown(name, value), {
        class: isNumeric(name) ? "n" : words ? "words" : "", ...(words ? { dir: "auto" } : {}),
      });
      if (name === "item") {
        const open = element("button", value === null ? "–" : value, { type: "button", class: "open", "aria-expanded": state.opened.has(row) });
        open.addEventListener("click", () => toggle(row));
        box.append(open);
      }
      line.append(box);
    }
    return line;
  }

  function render() {
    const pages = Math.max(1, Math.ceil(state.order.length / PAGE));
    state.page = Math.max(0, Math.min(state.page, pages - 1));
    const body = document.createDocumentFragment();
    const later = [];
    for (const row of state.order.slice(state.page * PAGE, (state.page + 1) * PAGE)) {
      body.append(rowOf(row));
      if (state.opened.has(row)) body.append(detail(row, later));
    }
    state.plots.splice(0).forEach(drop);
    document.querySelector("#turn-table tbody").replaceChildren(body);
    later.forEach((made) => { if (made) made(); });
    for (const head of document.querySelectorAll("#turn-table thead th")) {
      const sorted = head.dataset.name === state.sort;
      head.setAttribute("aria-sort", sorted ? (state.down ? "descending" : "ascending") : "none");
    }
    document.getElementById("turn-count").textContent =
      state.order.length === total ? `${number.format(total)} turns` : `${number.format(state.order.length)} of ${number.format(total)} turns`;
    document.getElementById("turn-page").textContent = `page ${state.page + 1} of ${pages}`;
    for (const id of ["turn-first", "turn-previous"]) document.getElementById(id).disabled = state.page === 0;
    for (const id of ["turn-next", "turn-last"]) document.getElementById(id).disabled = state.page >= pages - 1;
    document.getElementById("turn-pages").hidden = pages === 1;
  }

  function refresh() {
    state.page = 0;
    select();
    render();
  }

  function reveal(row) {
    if (row < 0) return;
    for (const id of ["turn-search", "turn-outcome", "turn-variant", "turn-tag"]) document.getElementById(id).value = "";
    select();
    state.page = Math.floor(state.order.indexOf(row) / PAGE);
    state.opened = new Set([row]);
    render();
    const line = document.querySelector(`#turn-table tr[data-row="${row}"]`);
    line.scrollIntoView({ block: "start" });
    line.querySelector(".open").focus({ preventScroll: true });
  }

  // "#turn=SESSION/TURN" is the address of one turn: the page's own links use it, and it can be passed on.
  function follow() {
    const match = /^#turn=(.*)\/(\d+)$/.exec(location.hash);
    if (!match) return;
    let session = match[1];
    try { session = decodeURIComponent(session); } catch { /* not ours: then no session has that name */ }
    for (let row = 0; row < total; row += 1) {
      if (cell("turn", row) === Number(match[2]) && cell("session", row) === session) reveal(row);
    }
  }

  function offer(id, values) {
    const choice = document.getElementById(id);
    values.forEach((name) => choice.append(element("option", name, { value: name })));
    choice.addEventListener("change", refresh);
    if (values.length > 1) choice.parentElement.hidden = false;
  }

  function different(name) {
    const column = columns[name];
    return column ? column.levels || [...new Set(column)].filter((value) => value !== null).sort() : [];
  }

  function makeTable() {
    const table = document.getElementById("turn-table");
    if (!table) return;
    const head = element("tr");
    for (const [name, label] of SHOWN) {
      if (!columns[name]) continue;
      const numeric = isNumeric(name);
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
    offer("turn-outcome", different("outcome"));
    offer("turn-variant", different("variant"));
    offer("turn-tag", [...new Set(different("tags").flatMap((tags) => tags.split(" ")))].sort());
    // Escape closes the turn that one reads, wherever in it one is.
    table.addEventListener("keydown", ({ key, target }) => {
      const line = key === "Escape" && target.closest("tbody tr");
      const owner = line && (line.classList.contains("detail") ? line.previousElementSibling : line);
      if (owner && state.opened.has(Number(owner.dataset.row))) toggle(Number(owner.dataset.row));
    });
    document.getElementById("turn-search").addEventListener("input", refresh);
    document.getElementById("turn-filter").addEventListener("submit", (event) => event.preventDefault());
    const turnTo = { first: () => 0, previous: () => state.page - 1, next: () => state.page + 1, last: () => Infinity };
    for (const [name, page] of Object.entries(turnTo)) {
      document.getElementById(`turn-${name}`).addEventListener("click", () => { state.page = page(); render(); });
    }
    document.getElementById("turn-filter").hidden = false;
    document.getElementById("turn-help").hidden = false;
    refresh();
    picked.words = (turn) => {
      const row = tableRow(turn);
      if (row < 0) return [];
      return [`${cell("item", row)}, session ${cell("session", row)}`, ...(cell("outcome", row) === "ok" ? [] : [cell("outcome", row)])];
    };
    picked.show = (turn) => {
      const row = tableRow(turn);
      if (row >= 0) location.hash = `#turn=${encodeURIComponent(cell("session", row))}/${cell("turn", row)}`;
    };
    window.addEventListener("hashchange", follow);
    // A link that is clicked twice changes no address.
    document.addEventListener("click", ({ target }) => {
      const link = target.closest && target.closest('a[href^="#turn="]');
      if (link && link.getAttribute("href") === location.hash) follow();
    });
    follow();
  }

  makeTable();
})();
