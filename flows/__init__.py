"""The flows: one file per flow; each reads in the order of its DAG."""
