"""Decides when a model is trained anew, keeps the trail of decisions and reviewers' words, and draws the
review page.
"""
