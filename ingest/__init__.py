"""HTTP in, confirmed message out."""
