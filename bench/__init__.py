"""What it costs to take records and to store them, beside limits and peers measured in the same run."""
