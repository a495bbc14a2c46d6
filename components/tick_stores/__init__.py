"""Where ticks are kept and bars are read from: a store by its address, files of one machine the default."""
