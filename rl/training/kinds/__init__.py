"""The kinds of experiments: what each is described by, and who runs it."""
