"""Search: queries -> vectors -> rankings -> hits. Knows no HTTP."""
