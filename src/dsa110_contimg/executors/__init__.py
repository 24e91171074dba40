"""Executors: run calls in this process, in processes of this machine or on a cluster.

docs/executors.md draws their states, locks and threads.
"""
