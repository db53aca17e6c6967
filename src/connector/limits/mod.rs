//! Budgets, learned limits, pauses, circuit breakers: what may leave, and when.
