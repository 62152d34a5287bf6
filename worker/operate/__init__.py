"""What an operator asks of a system that runs: how much was used, where one event is, what is going on."""
