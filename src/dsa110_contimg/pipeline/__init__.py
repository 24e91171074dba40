"""Run any graph of stages: knows dependencies and executors, no astronomy."""
