"""What a request meets: routes, keys, limits, the contract in words."""
