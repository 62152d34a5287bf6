"""What the two sides of the queue agree on."""
