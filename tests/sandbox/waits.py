"""A program that never ends by itself."""

import time

while True:
    time.sleep(60)
