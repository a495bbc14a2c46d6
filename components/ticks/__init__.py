"""Order-book events in: simulated or read from recordings, checked, and set on one clock."""
