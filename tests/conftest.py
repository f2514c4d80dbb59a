"""Settings for the whole suite."""

from hypothesis import settings

# Tests say what is true, not how fast: how long an example takes depends on the machine.
settings.register_profile("gradwire", deadline=None, print_blob=True)
settings.load_profile("gradwire")
