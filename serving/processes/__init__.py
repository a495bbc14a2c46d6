"""What runs beside the service: the launcher, the registry follower, the log writer, the
store mirror."""
