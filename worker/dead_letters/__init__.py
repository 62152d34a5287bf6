"""What an operator does about what could not be stored: see it, send it again, give it up."""
