"""A suite of named checks."""

import time


class Suite:
    """Runs checks one after the other, prints each result, and remembers whether any failed."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, test):
        begun = time.monotonic()
        try:
            told = test()
            self.passed += 1
            print(f"ok    {name}: {told} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Exception as fault:
            self.failed += 1
            print(f"FAIL  {name}: {type(fault).__name__}: {fault}", flush=True)
