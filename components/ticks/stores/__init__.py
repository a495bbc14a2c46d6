"""Where ticks are kept and bars are read from: files of one machine."""
