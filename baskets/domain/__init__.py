"""All rules and all writes: plain functions that lock first, decide second, write third and record one event last."""
