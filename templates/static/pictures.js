// Pictures that a person gave: sent to the server, which keeps them in memory only, and kept in the
// browser too, so that a search with them survives a restart of the server and a reload of the page.
import { ask, toast } from "./dom.js";
import { picture, tokens } from "./query.js";
import { pictureToken } from "./terms.js";

const KEPT = 60;

function store(mode, work) {
  return new Promise((resolve, reject) => {
    const opening = indexedDB.open("sightline", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("pictures");
    opening.onerror = () => reject(opening.error);
    opening.onsuccess = () => {
      const database = opening.result;
      const transaction = database.transaction("pictures", mode);
      const request = work(transaction.objectStore("pictures"));
      transaction.oncomplete = () => (database.close(), resolve(request.result));
      transaction.onerror = () => (database.close(), reject(transaction.error));
    };
  });
}

const urls = new Map();

/** An object URL for a picture given earlier, or null when this browser does not have it. */
export async function urlOf(token) {
  if (!urls.has(token)) {
    const kept = await store("readonly", (all) => all.get(token)).catch(() => null);
    if (!kept) return null;
    urls.set(token, kept.preview ?? URL.createObjectURL(kept.blob));
  }
  return urls.get(token);
}

/** Of these formats the server makes a small picture that every browser shows. */
const FOREIGN = /hei[cf]|tiff?$/i;

function send(blob) {
  const form = new FormData(), preview = FOREIGN.test(blob.type) || FOREIGN.test(blob.name ?? "");
  form.append("image", blob, blob.name ?? "picture");
  return ask(`/api/uploads${preview ? "?preview=1" : ""}`, { method: "POST", body: form });
}

/** Sends a picture and returns the token that stands for it in a query. */
export async function upload(blob) {
  const { token, preview } = await send(blob);
  urls.set(token, preview ?? URL.createObjectURL(blob));
  await store("readwrite", (all) => all.put({ blob, preview, at: Date.now() }, token)).catch(() => null);
  await forgetOldest().catch(() => null);
  return token;
}

async function forgetOldest() {
  const names = await store("readonly", (all) => all.getAllKeys());
  if (names.length <= KEPT) return;
  const kept = await store("readonly", (all) => all.getAll());
  const oldest = names.map((name, i) => ({ name, at: kept[i]?.at ?? 0 })).sort((a, b) => a.at - b.at).slice(0, -KEPT);
  for (const { name } of oldest) await store("readwrite", (all) => all.delete(name));
}

/** Gives the server the pictures of a query again; the query with their new tokens. */
export async function again(q) {
  for (const text of tokens(q)) {
    const part = picture(text);
    if (part?.kind !== "upload") continue;
    const [token, box] = part.ref.split("@");
    const kept = await store("readonly", (all) => all.get(token)).catch(() => null);
    if (!kept) throw new Error("A picture of this search is no longer there. Drop it again.");
    const fresh = await upload(kept.blob);
    const ref = box ? `${fresh}@${box}` : fresh;
    q = tokens(q).map((other) => (other === text ? pictureToken({ ...part, ref }) : other)).join(" ");
  }
  return q;
}

/** Sends the pictures among `files`; the tokens that stand for them in a query, in their order. */
export async function take(files) {
  const given = files.filter((file) => file.type.startsWith("image/") || /\.(heic|heif|avif|tiff?)$/i.test(file.name));
  if (files.length && !given.length) toast("That is not a picture");
  const sent = [];
  try {
    for (const file of given) sent.push(pictureToken({ kind: "upload", ref: await upload(file), weight: 1 }));
  } catch (error) {
    toast(error.message);
  }
  return sent;
}
