"""The sections of a run's report: words and figures in a module each, its template beside it."""
