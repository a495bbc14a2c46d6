"""Memory: what this process may use of it (`limits`) and the share of that which work is sized for (`share`).

Ground floor: imports only the contracts. All figures are bytes.
"""
