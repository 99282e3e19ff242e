"""The kill programme: real processes under load, killed in every way, and a journal of what was promised to whom."""
