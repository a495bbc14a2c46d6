"""Memory: what this process may use of it (`limits`) and the share of that which work is sized for (`share`).

Ground floor: imports only the contracts and how processes end. All figures are bytes.
"""
