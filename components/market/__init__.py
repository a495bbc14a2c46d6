"""Where panels come from:

CSV and Parquet files of any naming and clock, and a simulated market whose alpha is known.
"""
