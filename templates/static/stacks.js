// Near-identical shots lie under the best of them; one press spreads them out beside it, or folds
// them again. Loaded with the first press.
import { ask } from "./dom.js";

const MOST = 50;

export async function turnStack(grid, i) {
  const hit = grid.item(i);
  if (hit.open) {
    grid.splice(i + 1, hit.open, []);
    hit.open = 0;
  } else {
    const found = await Promise.all(hit.duplicates.slice(0, MOST).map((id) => ask(`/api/images/${id}`).catch(() => null)));
    if (grid.item(i) !== hit) return; // other results came meanwhile
    const members = found.filter(Boolean).map((member) => ({ ...member, member: true, duplicates: [] }));
    hit.open = members.length;
    grid.splice(i + 1, 0, members);
  }
  grid.refresh(i);
  grid.focus(i);
}
