"""One unit of work each, on explicit paths: what stages give to workers and what commands call.

They know files and artifacts; they know neither the database nor the graph of stages.
"""
