"""Raw rows -> kept events: normalise, pseudonymise, clean, deduplicate, match returns."""
