// Writes the parts of a query as text: image terms, and whole queries from GET /api/parse. Loaded with
// the first image or chip.
import { change, imageTerm } from "./query.js";

export function imageToken({ kind, ref, weight }) {
  const size = Math.abs(weight);
  return `${weight < 0 ? "-" : ""}${size === 1 ? "" : `${size}:`}${kind}:${ref}`;
}

/** Adds an image of the library, or changes its weight: no image is in a query twice. */
export const withImage = (q, ref, weight) =>
  change(q, (token) => imageTerm(token)?.ref === String(ref), imageToken({ kind: "like", ref, weight }));

const quote = (value) => (/[\s"]/.test(value) ? `"${value.replaceAll('"', "")}"` : value);

/** The text of a parsed query, in the format of GET /api/parse. */
export function serialise({ terms, filters, combine, sort }) {
  const images = [], plain = [], quoted = [];
  for (const { kind, text, quoted: within, id, token, box, weight } of terms) {
    if (kind === "text" && weight === 1 && !plain.length && !within) plain.push(text);
    else if (kind === "text") {
      const size = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}:`;
      quoted.push(`${weight < 0 ? "-" : ""}${size}"${text.replaceAll('"', "")}"`);
    } else {
      const ref = (kind === "like" ? id : token) + (box ? `@${box.join(",")}` : "");
      images.push(imageToken({ kind, ref, weight }));
    }
  }
  const conditions = filters.map(({ name, value, negated }) => `${negated ? "-" : ""}${name}:${quote(String(value))}`);
  const settings = [combine === "all" && "match:all", sort !== "relevance" && `sort:${sort}`];
  return [...images, ...plain, ...quoted, ...conditions, ...settings].filter(Boolean).join(" ");
}
