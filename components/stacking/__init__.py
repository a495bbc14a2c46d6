"""The Z layer: gathers the experts' out-of-fold predictions, audits them and learns to combine them."""
