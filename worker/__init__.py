"""Messages in, stored documents out."""
