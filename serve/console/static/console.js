// What every page does: values in the reader's own way, charts, a stream that says when it is broken.
"use strict";

(() => {
  const times = {
    datetime: { dateStyle: "medium", timeStyle: "medium" },
    date: { dateStyle: "medium" },
    time: { timeStyle: "medium" },
  };
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

  function ago(date) {
    const seconds = (date - Date.now()) / 1000;
    const [unit, size] = units.find(([, size]) => Math.abs(seconds) >= size) ?? units.at(-1);
    return relative.format(Math.round(seconds / size), unit);
  }

  function writeTime(element) {
    const date = new Date(element.dateTime);
    element.title = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" }).format(date);
    element.textContent = element.dataset.form === "ago" ? ago(date)
      : new Intl.DateTimeFormat(undefined, times[element.dataset.form] ?? times.datetime).format(date);
  }

  function writeNumber(element) {
    const { form, digits, currency } = element.dataset;
    const options = { maximumFractionDigits: Number(digits ?? 2), minimumFractionDigits: Number(digits ?? 2) };
    if (form === "percent") options.style = "percent";
    if (form === "compact") options.notation = "compact";
    if (form === "money") Object.assign(options, { style: "currency", currency });
    element.textContent = new Intl.NumberFormat(undefined, options).format(Number(element.value));
  }

  // Charts: <div class="chart" data-chart='{"x": [...], "time": true, "series": [{"label", "values", "low", "high"}]}'>
  const COLOURS = 8;
  // Times of day, and the date where it changes; from a day's step on, dates.
  function writeTicks(ticks, step) {
    const clock = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit", ...(step < 60 && { second: "2-digit" }) });
    const day = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
    let last = null;
    return ticks.map((tick) => {
      const date = day.format(tick * 1000), is = date === last;
      last = date;
      return step >= 86400 ? date : is ? clock.format(tick * 1000) : `${clock.format(tick * 1000)}\n${date}`;
    });
  }

  function draw(element) {
    if (typeof uPlot === "undefined") return;
    const { x, time = false, label = "Time", series, percent = false, digits = 3 } = JSON.parse(element.dataset.chart);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    const whole = new Intl.NumberFormat(), moment = new Intl.DateTimeFormat(undefined, times.datetime);
    const data = [x], bands = [];
    const lines = [{ label, value: (_, at) => at == null ? "–" : time ? moment.format(at * 1000) : whole.format(at) }];
    const format = new Intl.NumberFormat(undefined, percent ? { style: "percent", maximumFractionDigits: 1 } : { maximumFractionDigits: digits });
    const value = (_, shown) => shown == null ? "–" : format.format(shown);
    series.forEach(({ label, values, low, high }, i) => {
      const stroke = colour(`--series-${i % COLOURS + 1}`);
      lines.push({ label, stroke, width: 2, value, points: { show: x.length < 3 }, spanGaps: true });
      data.push(values);
      if (low && high) {
        lines.push({ stroke: "transparent", points: { show: false }, class: "bound" }, { stroke: "transparent", points: { show: false }, class: "bound" });
        data.push(high, low);
        bands.push({ series: [lines.length - 2, lines.length - 1], fill: `color-mix(in srgb, ${stroke} 18%, transparent)` });
      }
    });
    const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui" };
    const height = element.clientHeight || 240;
    element.replaceChildren();
    const plot = new uPlot({
      width: element.clientWidth, height: Math.max(height - 34, 120), series: lines, bands,
      scales: { x: { time } }, legend: { live: true },
      axes: [{ ...axis, values: (_, ticks, __, ___, step) => (time ? writeTicks(ticks, step) : ticks.map((tick) => whole.format(tick))) }, { ...axis, size: 60, values: (_, ticks) => ticks.map((tick) => format.format(tick)) }],
      cursor: { points: { size: 7 } },
    }, data, element);
    queueMicrotask(() => {  // when it has its width: then the legend has as many lines as its names need
      const legend = element.querySelector(".u-legend")?.offsetHeight ?? 0;
      plot.setSize({ width: element.clientWidth, height: Math.max(height - legend, 120) });
    });
    element.plot = plot;
  }

  // The extension waits ever longer, up to a minute: who looks at a page sees sooner that the service is back.
  const AGAIN_MS = 3000;
  function connectAgain(live) {
    if (!document.contains(live)) return;
    const fresh = live.cloneNode(true);
    live.replaceWith(fresh);
    htmx.process(fresh);
  }

  function prepare(root) {
    const all = (selector) => [...(root.matches?.(selector) ? [root] : []), ...root.querySelectorAll(selector)];
    all("time[datetime]").forEach(writeTime);
    all("data[data-form]").forEach(writeNumber);
    all("[data-chart]").forEach(draw);
  }

  const redraw = () => document.querySelectorAll("[data-chart]").forEach(draw);
  let resizing;
  addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(redraw, 150); });
  document.addEventListener("theme", redraw);
  document.addEventListener("DOMContentLoaded", () => {
    prepare(document.body);
    document.body.addEventListener("htmx:afterSwap", (event) => prepare(event.detail.elt ?? event.target));
    document.body.addEventListener("htmx:sseMessage", (event) => prepare(event.target));
    document.body.addEventListener("htmx:beforeRequest", () => document.getElementById("notice").replaceChildren());
    const sayUnreachable = () => {
      const notice = document.getElementById("notice"), said = document.createElement("p");
      said.className = "problem inline";
      said.textContent = "The service cannot be reached. Nothing is lost: try again in a moment.";
      notice.replaceChildren(said);
    };
    document.body.addEventListener("htmx:sendError", sayUnreachable);
    document.body.addEventListener("htmx:beforeSwap", (event) => {
      const { xhr } = event.detail;
      // What stands before the service answers for it while it starts, in a shape of its own.
      if (xhr.status >= 400 && !(xhr.getResponseHeader("content-type") ?? "").startsWith("text/html")) {
        event.detail.shouldSwap = false;
        sayUnreachable();
      }
    });
    document.body.addEventListener("htmx:sseError", (event) => {
      const said = document.createElement("span"), dot = document.createElement("span");
      dot.className = "dot off";
      said.className = "muted";
      said.textContent = "no connection";
      if (!event.target.classList.contains("live")) return;
      event.target.replaceChildren(dot, said);
      setTimeout(() => connectAgain(event.target), AGAIN_MS);
    });
    setInterval(() => document.querySelectorAll('time[data-form="ago"]').forEach(writeTime), 5000);
  });
})();
