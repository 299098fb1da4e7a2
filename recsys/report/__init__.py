"""What a person looks at: `report.html` and the short table in the terminal."""
