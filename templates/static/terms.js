// Writing the parts of a query: its pictures, and all of it from what /api/parse made of it. Loaded
// with the first picture or the first chip.
import { change, picture } from "./query.js";

export function pictureToken({ kind, ref, weight }) {
  const size = Math.abs(weight);
  return `${weight < 0 ? "-" : ""}${size === 1 ? "" : `${size}:`}${kind}:${ref}`;
}

/** Adds a picture, or turns round the one that is there: nothing is both more and less wanted. */
export const withPicture = (q, ref, weight) =>
  change(q, (token) => picture(token)?.ref === String(ref), pictureToken({ kind: "like", ref, weight }));

const quote = (value) => (/[\s"]/.test(value) ? `"${value.replaceAll('"', "")}"` : value);

/** The text of a query from its parts as /api/parse gives them: what a change to a chip makes. */
export function serialise({ terms, filters, combine, sort }) {
  const pictures = [], plain = [], signed = [];
  for (const { kind, text, id, token, box, weight } of terms) {
    if (kind === "text" && weight === 1 && !plain.length && !text.includes('"')) plain.push(text);
    else if (kind === "text" && weight === 1) signed.push(`"${text.replaceAll('"', "")}"`);
    else if (kind === "text") {
      const size = Math.abs(weight) === 1 ? "" : `${Math.abs(weight)}:`;
      signed.push(`${weight < 0 ? "-" : ""}${size}"${text.replaceAll('"', "")}"`);
    } else {
      const ref = (kind === "like" ? id : token) + (box ? `@${box.join(",")}` : "");
      pictures.push(pictureToken({ kind, ref, weight }));
    }
  }
  const conditions = filters.map(({ name, value, negated }) => `${negated ? "-" : ""}${name}:${quote(String(value))}`);
  const settings = [combine === "all" && "match:all", sort !== "relevance" && `sort:${sort}`];
  return [...pictures, ...plain, ...signed, ...conditions, ...settings].filter(Boolean).join(" ");
}
