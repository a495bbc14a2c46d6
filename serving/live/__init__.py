"""What answers: the state that is served, online features, positions, the log of answers."""
