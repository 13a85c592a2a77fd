"""One YAML file, read once: `config.load.load` gives frozen sections, or every mistake at once."""
