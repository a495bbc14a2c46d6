"""Folders that outlast the machine that writes them, by address.

Ground floor: imports only the contracts.
"""
