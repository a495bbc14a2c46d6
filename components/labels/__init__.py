"""Labels: what experts learn to forecast, made from prices after the signal and from nothing before it."""
