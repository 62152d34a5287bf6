"""What can be known of a process's surroundings without starting it, and without changing them."""
