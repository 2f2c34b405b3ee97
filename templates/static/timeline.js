// The results by month, or by year where months would be too thin to hit; a bar filters.
import { $, ask, date, h, plural, style } from "./dom.js";
import { month, withMonths } from "./query.js";

const THIN = 9;

const next = (from, months) => {
  const [year, at = 1] = from.split("-").map(Number);
  return new Date(Date.UTC(year, at - 1 + months, 1)).toISOString().slice(0, 7);
};

/** Every month from the first to the last, those without a picture too. */
function filled(months) {
  const counts = new Map(months.map(({ month: at, count }) => [at, count]));
  const sorted = [...counts.keys()].sort(), bars = [];
  for (let at = sorted[0]; at && at <= sorted.at(-1); at = next(at, 1)) {
    bars.push({ after: at, before: next(at, 1), count: counts.get(at) ?? 0, name: date(`${at}-01T00:00`, { month: "long", year: "numeric" }) });
  }
  return bars;
}

function byYear(bars) {
  const years = new Map();
  for (const { after, count } of bars) years.set(after.slice(0, 4), (years.get(after.slice(0, 4)) ?? 0) + count);
  return [...years].map(([name, count]) => ({ after: name, before: String(Number(name) + 1), count, name }));
}

export function createTimeline({ onQuery }) {
  const place = $("timeline");
  let last = null, asking;

  async function show(q) {
    if (place.hidden) return;
    // All months stay in sight while some are chosen: the counts are those of the search without them.
    const whole = withMonths(q), key = `${whole}|${place.clientWidth}`;
    if (key !== last) {
      asking?.abort();
      asking = new AbortController();
      const found = await ask(`/api/timeline?q=${encodeURIComponent(whole)}`, { signal: asking.signal }).catch(() => null);
      if (!found) return;
      last = key;
      draw(filled(found.months));
    }
    const { after, before } = month(q);
    for (const bar of place.querySelectorAll("button")) {
      bar.setAttribute("aria-pressed", String(!!after && bar.after >= after && (!before || bar.before <= before)));
      bar.onclick = () => onQuery(bar.getAttribute("aria-pressed") === "true" ? whole : withMonths(q, bar.after, bar.before));
    }
  }

  function draw(months) {
    let bars = months;
    if (bars.length * THIN > place.clientWidth) bars = byYear(bars);
    const most = Math.max(...bars.map(({ count }) => count), 1);
    if (bars.length) place.classList.remove("none");
    else return place.replaceChildren(h("small", {}, "No dates"));
    place.replaceChildren(...bars.map(({ after, before, count, name }, i) => {
      const fill = h("i");
      style(fill, { height: count ? `${Math.max(6, 100 * Math.sqrt(count / most))}%` : "0" });
      const yearly = after.endsWith("-01") || after.length === 4 || !i;
      const label = yearly && (i === 0 || bars.length * 26 < place.clientWidth || after.endsWith("-01")) ? after.slice(0, 4) : null;
      const bar = h("button", {
        type: "button", class: "month", tabindex: i ? -1 : 0, title: `${name}: ${plural(count, "picture")}`,
        "aria-label": `${name}, ${plural(count, "picture")}`,
      }, fill, label && h("small", { "aria-hidden": "true" }, label));
      return Object.assign(bar, { after, before });
    }));
  }

  place.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    const bars = [...place.children], to = bars[bars.indexOf(event.target) + step];
    if (!to) return;
    event.preventDefault();
    event.target.tabIndex = -1;
    to.tabIndex = 0;
    to.focus();
  });

  return { show };
}
