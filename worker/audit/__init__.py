"""Whether the books balance: what came in held against what is stored, refused, or lies among the dead letters."""
