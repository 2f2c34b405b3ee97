// Near-identical images are stacked under the best of them; a click expands or collapses the stack.
// Loaded with the first click.
import { ask } from "./dom.js";

const MAX_MEMBERS = 50;

export async function toggleStack(grid, i) {
  const hit = grid.item(i);
  if (hit.expanded) {
    const count = hit.expanded;
    hit.expanded = 0;
    grid.splice(i + 1, count, []);
  } else {
    const found = await Promise.all(hit.duplicates.slice(0, MAX_MEMBERS).map((id) => ask(`api/images/${id}`).catch(() => null)));
    if (grid.item(i) !== hit) return; // the results changed meanwhile
    const members = found.filter(Boolean).map((member) => ({ ...member, member: true, duplicates: [] }));
    hit.expanded = members.length;
    grid.splice(i + 1, 0, members);
  }
  grid.focus(i);
}
