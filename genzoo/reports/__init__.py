"""Pages to look at: a run's report, and a comparison of several runs."""
