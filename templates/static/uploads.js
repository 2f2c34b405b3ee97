// Uploaded images: sent to the server, which holds them in memory only, and stored in the browser, so
// that a search with them survives a restart of the server and a reload of the page.
import { ask, t, toast } from "./dom.js";
import { imageTerm, tokens } from "./query.js";
import "./strings.query.js";
import { imageToken } from "./terms.js";

const MAX_STORED = 60;

/** Runs `work` on the object store in one transaction. */
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

const stored = (token) => store("readonly", (all) => all.get(token)).catch(() => null);

const urls = new Map();

/** A URL of an uploaded image; null if this browser does not have it. */
export async function urlOf(token) {
  if (!urls.has(token)) {
    const upload = await stored(token);
    if (!upload) return null;
    urls.set(token, upload.preview ?? URL.createObjectURL(upload.blob));
  }
  return urls.get(token);
}

/** Formats that browsers do not show: the server returns a preview. */
const NEEDS_PREVIEW = /hei[cf]|tiff?$/i;

function send(blob) {
  const form = new FormData(), preview = NEEDS_PREVIEW.test(blob.type) || NEEDS_PREVIEW.test(blob.name ?? "");
  form.append("image", blob, blob.name ?? "image");
  return ask(`api/uploads${preview ? "?preview=1" : ""}`, { method: "POST", body: form });
}

/** Uploads an image and returns its token. */
async function upload(blob) {
  const { token, preview } = await send(blob);
  urls.set(token, preview ?? URL.createObjectURL(blob));
  await store("readwrite", (all) => all.put({ blob, preview, at: Date.now() }, token)).catch(() => null);
  await deleteOldest().catch(() => null);
  return token;
}

async function deleteOldest() {
  const names = await store("readonly", (all) => all.getAllKeys());
  if (names.length <= MAX_STORED) return;
  const uploads = await store("readonly", (all) => all.getAll());
  const oldest = names.map((name, i) => ({ name, at: uploads[i]?.at ?? 0 })).sort((a, b) => a.at - b.at).slice(0, -MAX_STORED);
  for (const { name } of oldest) await store("readwrite", (all) => all.delete(name));
}

/** Uploads the images of a query again and returns the query with their new tokens. */
export async function uploadAgain(q) {
  for (const text of tokens(q)) {
    const term = imageTerm(text);
    if (term?.kind !== "upload") continue;
    const [token, box] = term.ref.split("@");
    const found = await stored(token);
    if (!found) throw new Error(t("query.upload_lost"));
    const renewed = await upload(found.blob);
    const ref = box ? `${renewed}@${box}` : renewed;
    q = tokens(q).map((other) => (other === text ? imageToken({ ...term, ref }) : other)).join(" ");
  }
  return q;
}

const isImage = (file) => file.type.startsWith("image/") || /\.(heic|heif|avif|tiff?)$/i.test(file.name);

/** Uploads the images among `files` and returns their query tokens in order. Files that are none, or
 * cannot be read, are named and do not stop the others. */
export async function uploadAll(files) {
  const added = [], problems = [];
  for (const file of files) {
    const name = files.length > 1 && file.name;
    if (!isImage(file)) problems.push(name ? t("query.not_an_image", { name }) : t("query.this_not_an_image"));
    else {
      try {
        added.push(imageToken({ kind: "upload", ref: await upload(file), weight: 1 }));
      } catch (error) {
        // The server's reason is the decoder's.
        problems.push(error.status !== 400 ? error.message : name ? t("query.unreadable", { name }) : t("query.this_unreadable"));
      }
    }
  }
  if (problems.length) toast([...new Set(problems)].join(" "));
  return added;
}
