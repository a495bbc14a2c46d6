"""The feature store: publishes factors to Feast, writes the online values, and reads training sets and newest
values back.
"""
