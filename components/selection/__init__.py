"""Selection: which factors a model should see, chosen inside the training window of each fold, with the
evidence for each.
"""
