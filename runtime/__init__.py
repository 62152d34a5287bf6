"""How any process of ours lives."""
