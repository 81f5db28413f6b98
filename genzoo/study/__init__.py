"""Studies: many runs that differ as a small YAML file says, and the page that tabulates them over seeds."""
