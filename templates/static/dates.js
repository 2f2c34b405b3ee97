// Names of date ranges. Loaded with the chips.
import { date } from "./dom.js";

/** The name of a day, month or year: 2018, 2018-03, 2018-03-05. */
function nameOf(text) {
  if (text.length === 4) return text;
  return date(`${text}${text.length === 7 ? "-01" : ""}T00:00`, text.length === 7 ? { month: "long", year: "numeric" } : { dateStyle: "long" });
}

/** The day, month or year before `text`, in the same form. */
function previous(text) {
  const [year, month = 1, day = 1] = text.split("-").map(Number);
  const steps = { 4: [1, 0, 0], 7: [0, 1, 0], 10: [0, 0, 1] }[text.length];
  return new Date(Date.UTC(year - steps[0], month - 1 - steps[1], day - steps[2])).toISOString().slice(0, text.length);
}

/** "March 2018" for after:2018-03 before:2018-04, "March 2018 – May 2018" for a longer range; null for
 * anything else. */
export function dateRangeName(after, before) {
  if (![after, before].every((text) => /^\d{4}(-\d\d){0,2}$/.test(text)) || after.length !== before.length || after >= before) return null;
  const last = previous(before);
  return after === last ? nameOf(after) : `${nameOf(after)} – ${nameOf(last)}`;
}
