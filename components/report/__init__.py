"""The run report: one self-contained HTML page, a short summary for the terminal, and a page for runs that
failed.
"""
