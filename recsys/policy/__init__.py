"""How a slate is drawn, what is logged of it, and what comes back: policies, impressions, outcomes."""
