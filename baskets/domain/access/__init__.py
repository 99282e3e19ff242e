"""Who may call: partners, API keys, bearer tokens and their issuers, rate limits."""
