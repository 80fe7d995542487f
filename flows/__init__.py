"""When things happen, and in what order: one file a flow, each reading as the picture of its DAG."""
