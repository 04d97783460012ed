// The table of totals by time as plots.
"use strict";
addEventListener("DOMContentLoaded", () => {
  const charts = document.getElementById("charts");
  if (!charts) return;
  charts.hidden = false;
  const table = [...document.querySelectorAll("#totals [data-row]")];
  const times = table.map((row) => new Date(row.dataset.row.replace(" ", "T") + (row.dataset.row.includes(":") ? "" : "T00:00")).getTime() / 1000);
  const step = times.length > 1 ? Math.min(...times.slice(1).map((time, at) => time - times[at])) : 86400;
  const day = 86400;
  const format = (fields) => new Intl.DateTimeFormat("en-GB", fields);
  const ofDay = format({ day: "numeric", month: "short" });
  const ofHour = format({ hour: "2-digit", minute: "2-digit" });
  const named = (_, at) => at.map((one) => {
    const time = new Date(one * 1000);
    return (step < day && time.getHours() ? ofHour : ofDay).format(time);
  });
  const drawn = [];
  const draw = () => {
    for (const one of drawn.splice(0)) one.destroy();
    const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
    for (const box of document.querySelectorAll("[data-chart]")) {
      const axis = { stroke: colour("--dim"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui" };
      drawn.push(new uPlot({
        width: box.clientWidth, height: 180, legend: { show: false }, cursor: { y: false },
        scales: { x: { range: (_, low, high) => [low - step / 2, high + step / 2] }, y: { range: (_, low, high) => [0, high * 1.08 || 1] } },
        axes: [{ ...axis, values: named, incrs: (step < day ? [1 / 24, 1 / 8, 1 / 4] : []).concat([1, 2, 7, 14, 28, 91, 364]).map((one) => one * day) }, { ...axis, size: 62 }],
        series: [{}, { stroke: colour("--accent"), fill: colour("--wait"), width: 1.5, paths: uPlot.paths.bars({ size: [0.7, 60] }), points: { show: false } }],
      }, [times, table.map((row) => Number(row.dataset[box.dataset.chart]))], box));
    }
  };
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("resize", draw);
});
