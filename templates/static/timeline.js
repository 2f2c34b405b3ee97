// The results by month, or by year where months would be too narrow to click; a click filters.
import { $, ask, date, h, rightward, style, t } from "./dom.js";
import { dateRange, withDateRange } from "./query.js";

const MIN_WIDTH = 9; // pixels per bar
const LABEL_WIDTH = 40; // pixels of a year

const addMonths = (from, months) => {
  const [year, month = 1] = from.split("-").map(Number);
  return new Date(Date.UTC(year, month - 1 + months, 1)).toISOString().slice(0, 7);
};

/** A bar for every month from the first to the last, including empty ones. */
function byMonth(months) {
  const counts = new Map(months.map(({ month, count }) => [month, count]));
  const sorted = [...counts.keys()].sort(), bars = [];
  for (let month = sorted[0] && addMonths(sorted[0], 0); month && month <= addMonths(sorted.at(-1), 0); month = addMonths(month, 1)) {
    const year = month.slice(0, 4);  // of which nothing else is known
    if (month.endsWith("-01") && counts.has(year)) bars.push({ after: year, before: String(Number(year) + 1), count: counts.get(year), name: year });
    bars.push({ after: month, before: addMonths(month, 1), count: counts.get(month) ?? 0, name: date(`${month}-01T00:00`, { month: "long", year: "numeric" }) });
  }
  return bars;
}

function byYear(bars) {
  const years = new Map();
  for (const { after, count } of bars) years.set(after.slice(0, 4), (years.get(after.slice(0, 4)) ?? 0) + count);
  return [...years].map(([name, count]) => ({ after: name, before: String(Number(name) + 1), count, name }));
}

export function createTimeline({ onQuery }) {
  const chart = $("timeline");
  let drawn = null, request;

  async function show(q) {
    if (chart.hidden) return;
    // The bars show the query without its date range, so that other months stay in reach.
    const undated = withDateRange(q), key = `${undated}|${chart.clientWidth}`;
    if (key !== drawn) {
      request?.abort();
      request = new AbortController();
      const found = await ask(`api/timeline?q=${encodeURIComponent(undated)}`, { signal: request.signal }).catch(() => null);
      if (!found) return;
      drawn = key;
      draw(byMonth(found.months));
    }
    const { after, before } = dateRange(q);
    for (const bar of chart.querySelectorAll("button")) {
      bar.setAttribute("aria-pressed", String(!!after && bar.after >= after && (!before || bar.before <= before)));
      bar.onclick = () => onQuery(bar.getAttribute("aria-pressed") === "true" ? undated : withDateRange(q, bar.after, bar.before));
    }
  }

  function draw(months) {
    const bars = months.length * MIN_WIDTH > chart.clientWidth ? byYear(months) : months;
    const max = Math.max(...bars.map(({ count }) => count), 1);
    if (bars.length) chart.classList.remove("none");
    else return chart.replaceChildren(h("small", {}, t("page.no_dates")));
    const width = chart.clientWidth / bars.length, first = bars.findIndex(({ count }) => count);
    const years = bars.flatMap(({ after }, i) => (after.length === 4 || after.endsWith("-01") ? [i] : []));
    // The first bar has a label if the next January leaves space for it.
    if (!(years[0] * width < LABEL_WIDTH)) years.unshift(0);
    let free = 0;
    const labelled = new Set(years.filter((i) => i * width >= free && (free = i * width + LABEL_WIDTH)));
    chart.replaceChildren(...bars.map(({ after, before, count, name }, i) => {
      const fill = h("i");
      style(fill, { height: count ? `${Math.max(6, 100 * Math.sqrt(count / max))}%` : "0" });
      const label = labelled.has(i) && after.slice(0, 4);
      const bar = h("button", {
        type: "button", class: "month", disabled: !count, tabindex: i === first ? 0 : -1, title: t("page.photos_of", { count, time: name }),
        "aria-label": t("page.photos_of", { count, time: name }),
      }, fill, label && h("small", { "aria-hidden": "true" }, label));
      return Object.assign(bar, { after, before });
    }));
  }

  chart.addEventListener("keydown", (event) => {
    const step = { ArrowRight: rightward, ArrowLeft: -rightward }[event.key];
    const bars = [...chart.querySelectorAll("button:enabled")], next = bars[bars.indexOf(event.target) + step];
    if (!next) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    next.tabIndex = 0;
    next.focus();
  });

  return { show };
}
