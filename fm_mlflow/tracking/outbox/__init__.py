"""The outbox: what a run logs is kept in a journal on the local disk until the store has it."""
