"""A pure model of the contract, and machines that compare the service with it step by step."""
