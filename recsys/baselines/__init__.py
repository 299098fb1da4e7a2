"""What the model has to beat: simple rankers and value estimates fitted on the events up to a cut."""
