"""Search: a query becomes vectors, a ranking and hits. Knows no HTTP."""
