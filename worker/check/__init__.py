"""Whether everything is there that a worker needs."""
