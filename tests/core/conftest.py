"""Property tests without a deadline: on a busy machine one example may take long, and says nothing of the code."""

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
